"""The shell and its delivery alone, with two toy roles, under every fault; and the laws' own eyesight."""

from __future__ import annotations

import msgspec
import pytest

from actors.core import new_core
from actors.snapshot import SnapshotDamaged, decode_snapshot, encode_snapshot
from tests.sim.runner import simulate
from tests.sim.toys import Decider


@pytest.mark.parametrize("seed", range(40))
def test_delivery_recovery_and_fencing_hold_whatever_fails(seed: int) -> None:
    """Many small worlds, each with other faults."""
    result = simulate(seed, 600, world="toys")
    assert not result.law, f"seed {seed}: {result.law}: {result.text}"


@pytest.mark.parametrize("plant", ["ack_before_outcome", "missing_fence", "discarded_outbox"])
def test_a_planted_bug_in_the_shell_is_seen_without_a_venue(plant: str) -> None:
    """Bugs of the shell need no venue to be found."""
    assert any(simulate(seed, 600, plant, "toys").law for seed in range(60))


def test_a_snapshot_with_any_flipped_byte_is_passed_over_and_never_believed() -> None:
    """The header is covered too: a flip in it must not look like another role's snapshot, which stops the start."""
    role = Decider()
    payload = encode_snapshot(role, msgspec.structs.replace(new_core(role), seq=7))
    assert decode_snapshot(role, payload).seq == 7
    for at in range(len(payload)):
        for mask in (0x01, 0x55, 0x80):
            damaged = payload[:at] + bytes([payload[at] ^ mask]) + payload[at + 1 :]
            with pytest.raises(SnapshotDamaged):
                decode_snapshot(role, damaged)
