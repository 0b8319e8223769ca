"""`python -m tests.sim --seeds 200`; `--seed N`: one, with its story; `--plant NAME`: with a bug in it."""

from __future__ import annotations

import argparse
import functools
import sys
import time

from tests.sim.assembly import ASSEMBLIES
from tests.sim.plants import PLANTS
from tests.sim.runner import STEPS, Result, command, default_world, search, shortest, simulate


def main() -> int:
    """Exit code 1 if a law was broken without a plant, or if a plant was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="first of them")
    parser.add_argument("--seed", type=int, help="run this one and show its last events")
    parser.add_argument("--steps", type=int, default=STEPS, help="events before the quiet")
    parser.add_argument("--plant", choices=sorted(PLANTS), default="", help="a bug to put in")
    parser.add_argument("--world", choices=[*sorted(ASSEMBLIES), "all"], help="default: all of them, or the plant's")
    parser.add_argument("--shrink", action="store_true", help="with --seed: look for a shorter run first")
    arguments = parser.parse_args()
    if arguments.seed is not None or arguments.plant:
        arguments.world = arguments.world or default_world(arguments.plant)
    if arguments.seed is not None:
        return _one(arguments)
    return _many(arguments)


def _one(arguments: argparse.Namespace) -> int:
    steps = arguments.steps
    if arguments.shrink:
        steps = shortest(arguments.seed, steps, arguments.plant, arguments.world)
    result = simulate(arguments.seed, steps, arguments.plant, arguments.world)
    for line in result.lines:
        print(line)
    _say(result, steps, arguments.plant, arguments.world)
    return 1 if result.law else 0


def _many(arguments: argparse.Namespace) -> int:
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    failed = 0
    for world in sorted(ASSEMBLIES) if arguments.world in (None, "all") else [arguments.world]:
        began = time.monotonic()
        found = functools.partial(_say, steps=arguments.steps, plant=arguments.plant, world=world)
        results = search(seeds, arguments.steps, arguments.plant, world, found, bool(arguments.plant))
        broken = sum(bool(result.law) for result in results)
        failed += broken
        print(
            f"{world}: {len(results)} seeds in {time.monotonic() - began:.1f} s, {broken} broke a law; "
            f"{sum(result.step for result in results)} events, {sum(result.lives for result in results)} "
            f"incarnations, {sum(result.signals for result in results)} signals",
            flush=True,
        )
    if arguments.plant:
        return 0 if failed else 1
    return 1 if failed else 0


def _say(result: Result, steps: int, plant: str, world: str) -> None:
    if result.law:
        print(f"seed {result.seed}, step {result.step}: BROKEN: {result.law}\n  {result.text}")
        print(f"  {command(result, steps, plant, world)}", flush=True)
    else:
        print(f"seed {result.seed}: all laws held over {result.step} events; ledger {result.digest}")


if __name__ == "__main__":
    sys.exit(main())
