"""Run seeds; say which failed, by which law, and how to see it again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from tests.sim.assembly import ASSEMBLIES
from tests.sim.plants import PLANT_WORLDS, PLANTS
from tests.sim.scheduler import Violation
from tests.sim.world import Simulation

STEPS = 1500
WINDOW = 120


class Result(msgspec.Struct, frozen=True):
    """What became of one seed. `law` empty: all held. `digest` names the ledger's bytes."""

    seed: int
    law: str
    text: str
    step: int
    lives: int
    signals: int
    digest: str
    lines: tuple[str, ...] = ()


def simulate(
    seed: int, steps: int = STEPS, plant: str = "", world: str = "engine", consequences: bool = False
) -> Result:
    """Run one seed; `consequences`: only by the laws that see what comes of a bug, not by those that see it happen."""
    simulation = ASSEMBLIES[world](seed, steps)
    if plant:
        PLANTS[plant](simulation)
    if consequences:
        simulation.judge_by_consequences()
    try:
        simulation.run()
    except Violation as violation:
        return _result(simulation, violation)
    return _result(simulation, None)


def _result(simulation: Simulation, violation: Violation | None) -> Result:
    return Result(
        seed=simulation.seed,
        law=violation.law if violation else "",
        text=violation.text if violation else "",
        step=simulation.scheduler.step,
        lives=sum(host.lives for host in simulation.hosts.values()),
        signals=simulation.signals,
        digest=hashlib.blake2b(simulation.fingerprint(), digest_size=12).hexdigest(),
        lines=tuple(simulation.scheduler.lines(WINDOW)) if violation else (),
    )


def command(result: Result, steps: int, plant: str, world: str) -> str:
    """Return the one line that shows a failure again."""
    extra = f" --plant {plant}" if plant else ""
    extra += f" --steps {steps}" if steps != STEPS else ""
    extra += f" --world {world}" if world != default_world(plant) else ""
    return f"python -m tests.sim --seed {result.seed}{extra}"


def default_world(plant: str) -> str:
    """Return where a seed runs unless told otherwise: the engine's own roles, or where the plant grows."""
    return PLANT_WORLDS.get(plant, "engine")


def shortest(seed: int, steps: int, plant: str, world: str) -> int:
    """Return the fewest steps (by halving, then by tenths) at which this seed still breaks a law: a shorter story."""
    best = steps
    while best > 20:
        shorter = next((n for n in (best // 2, best * 9 // 10) if simulate(seed, n, plant, world).law), 0)
        if not shorter:
            return best
        best = shorter
    return best


def search(
    seeds: range,
    steps: int,
    plant: str,
    world: str,
    found: Callable[[Result], None],
    stop_at_first: bool = False,
) -> list[Result]:
    """Run many seeds; `found` hears of each failure at once."""
    results = []
    for seed in seeds:
        result = simulate(seed, steps, plant, world)
        results.append(result)
        if result.law:
            found(result)
            if stop_at_first:
                break
    return results
