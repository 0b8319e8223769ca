"""The same seed and commit give the same bytes, in this process, in another, and whatever the hash seed is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.assembly import ASSEMBLIES
from tests.sim.scheduler import Violation

ROOT = Path(__file__).resolve().parents[2]
PRINT_DIGESTS = """
from tests.sim.runner import simulate
print(" ".join(simulate(seed, 500, world=world).digest for world in {worlds!r} for seed in {seeds!r}))
"""


def ledger_bytes(world: str, seed: int) -> bytes:
    """Run one seed; a broken law ends it, but the bytes so far are bytes."""
    simulation = ASSEMBLIES[world](seed, 500)
    try:
        simulation.run()
    except Violation as violation:
        simulation.scheduler.log("test", str(violation))
    return simulation.fingerprint()


@pytest.mark.parametrize("world", sorted(ASSEMBLIES))
@pytest.mark.parametrize("seed", [1, 17])
def test_two_runs_of_a_seed_write_byte_identical_journals(world: str, seed: int) -> None:
    """All journals, snapshots and projections, whole."""
    first, second = ledger_bytes(world, seed), ledger_bytes(world, seed)
    assert len(first) > 1000
    assert first == second


def test_different_seeds_write_different_journals() -> None:
    """Otherwise the test above would prove nothing."""
    assert ledger_bytes("toys", 1) != ledger_bytes("toys", 2)


def test_journals_do_not_depend_on_the_hash_seed() -> None:
    """A set iterated somewhere, or an id taken from an address, would show here."""
    program = PRINT_DIGESTS.format(worlds=sorted(ASSEMBLIES), seeds=[1, 2, 3])
    digests = []
    for hash_seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert run.returncode == 0, run.stderr
        digests.append(run.stdout.split())
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == len(digests[0])
