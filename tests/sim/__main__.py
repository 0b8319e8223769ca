"""`python -m tests.sim --seeds 200`, or `--seed N` for one of them with its story; `--plant NAME` puts a bug in."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.assembly import ASSEMBLIES
from tests.sim.plants import PLANTS
from tests.sim.runner import STEPS, Result, command, search, shortest, simulate


def main() -> int:
    """Exit code 1 if a law was broken without a plant, or if a plant was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="first of them")
    parser.add_argument("--seed", type=int, help="run this one and show its last events")
    parser.add_argument("--steps", type=int, default=STEPS, help="events before the quiet")
    parser.add_argument("--plant", choices=sorted(PLANTS), default="", help="a bug to put in")
    parser.add_argument("--world", choices=sorted(ASSEMBLIES), default="engine")
    parser.add_argument("--shrink", action="store_true", help="with --seed: look for a shorter run first")
    arguments = parser.parse_args()
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
    _say(result, steps, arguments)
    return 1 if result.law else 0


def _many(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    seeds = range(arguments.first, arguments.first + arguments.seeds)

    def found(result: Result) -> None:
        _say(result, arguments.steps, arguments)

    results = search(seeds, arguments.steps, arguments.plant, arguments.world, found, bool(arguments.plant))
    failed = sum(bool(result.law) for result in results)
    print(
        f"{len(results)} seeds in {time.monotonic() - began:.1f} s: {failed} broke a law; "
        f"{sum(result.step for result in results)} events, {sum(result.lives for result in results)} incarnations, "
        f"{sum(result.signals for result in results)} signals"
    )
    if arguments.plant:
        return 0 if failed else 1
    return 1 if failed else 0


def _say(result: Result, steps: int, arguments: argparse.Namespace) -> None:
    if result.law:
        print(f"seed {result.seed}, step {result.step}: BROKEN: {result.law}\n  {result.text}")
        print(f"  {command(result, steps, arguments.plant, arguments.world)}")
    else:
        print(f"seed {result.seed}: all laws held over {result.step} events; ledger {result.digest}")


if __name__ == "__main__":
    sys.exit(main())
