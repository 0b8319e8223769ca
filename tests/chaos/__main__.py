"""`python -m tests.chaos --runs 20 --seed 1`: whole engines under load, processes killed at random, books compared.

A seed fixes what is done and in which order, not when each process gets to run. `--points`: every fault point of
every role instead. `--cycles`: engines that carry cycles out, on an exchange that loses answers. `--orders`: one
death at a chosen step of each of `--runs` brackets, batch after batch on an engine of its own. `--soak`: nobody dies,
and orders go out at the gateway's pace for `--minutes`. `--overload`: `--signals` of them at once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos.cycles import run_cycles
from tests.chaos.kills import SECONDS, run_kills
from tests.chaos.order_plan import BATCH, plan
from tests.chaos.orders import Told, run_orders
from tests.chaos.points import SENDS, crash_points, run_plan
from tests.chaos.soak import run_overload, run_soak

POINTS_A_RUN = 20
SUBMITTED_MIN = STRUCK_MIN = 0.7


def main() -> int:
    """Exit code 1 if any run lost or doubled anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the first; the next have the next ones")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of killing in each run")
    parser.add_argument("--points", action="store_true", help="crash at every point of every role")
    parser.add_argument("--cycles", action="store_true", help="carry cycles out instead")
    parser.add_argument("--orders", action="store_true", help="kill at each step of a bracket's life instead")
    parser.add_argument("--soak", action="store_true", help="orders at the gateway's pace instead")
    parser.add_argument("--minutes", type=float, default=10.0, help="with --soak: how long")
    parser.add_argument("--overload", action="store_true", help="more signals than can go out instead")
    parser.add_argument("--signals", type=int, default=7_800, help="with --overload: how many")
    parser.add_argument("--role", choices=sorted(SENDS), help="with --points: of this role only")
    parser.add_argument("--say", action="store_true", help="tell each act")
    arguments = parser.parse_args()
    ways = {"points": _points, "cycles": _cycles, "orders": _orders, "soak": _soak, "overload": _overload}
    work = next((way for name, way in ways.items() if getattr(arguments, name)), _kills)
    failed = work(arguments)
    print(f"{failed} runs failed")
    return 1 if failed else 0


def _kills(arguments: argparse.Namespace) -> int:
    failed, total = 0, Counter[str]()

    def once(run_dir: Path, seed: int) -> str:
        chaos = run_kills(run_dir, seed, arguments.seconds, arguments.say)
        total.update(chaos.done)
        return f"{len(chaos.load.published)} signals; {_counted(chaos.done)}"

    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        command = f"python -m tests.chaos --runs 1 --seed {seed} --seconds {arguments.seconds} --say"
        failed += not _run(f"seed {seed}", command, seed, once)
    print(f"in all: {_counted(total)}")
    return failed


def _cycles(arguments: argparse.Namespace) -> int:
    failed, total = 0, Counter[str]()

    def once(run_dir: Path, seed: int) -> str:
        done = run_cycles(run_dir, seed, arguments.seconds, arguments.say)
        total.update(done)
        return _counted(done)

    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        command = f"python -m tests.chaos --cycles --runs 1 --seed {seed} --seconds {arguments.seconds} --say"
        failed += not _run(f"seed {seed}", command, seed, once)
    print(f"in all: {_counted(total)}")
    return failed


def _orders(arguments: argparse.Namespace) -> int:
    """Fails, too, where too few signals became orders or too few deaths were died: doing nothing would pass else."""
    failed, told = 0, Told(arguments.say)
    seeds = range(arguments.seed, arguments.seed + -(-arguments.runs // BATCH))
    for batch, seed in enumerate(seeds):
        count = min(BATCH, arguments.runs - batch * BATCH)

        def once(run_dir: Path, seed: int, count: int = count) -> str:
            run_orders(run_dir, plan(seed, count), seed, told)
            return f"{told.struck.total()} of {told.planned.total()} struck so far"

        command = f"python -m tests.chaos --orders --runs {count} --seed {seed} --say"
        failed += not _run(f"seed {seed}", command, seed, once)
    print(told)
    if told.outcomes["submitted"] < SUBMITTED_MIN * told.outcomes.total():
        print("FAILED: too many signals did not become orders")
        failed += 1
    if told.struck.total() < STRUCK_MIN * told.planned.total():
        print("FAILED: too many moments did not come")
        failed += 1
    return failed


def _points(arguments: argparse.Namespace) -> int:
    failed = 0
    for role in [arguments.role] if arguments.role else sorted(SENDS):
        rules = crash_points(role, arguments.seed)
        for first in range(0, len(rules), POINTS_A_RUN):
            some = rules[first : first + POINTS_A_RUN]

            def once(run_dir: Path, seed: int, some: list = some) -> str:  # type: ignore[type-arg]
                met = run_plan(run_dir, some, seed, 60)
                missed = ", ".join(f"{rule.point} {rule.message} #{rule.nth}" for rule in met.missed)
                return f"{len(met.struck)} of {len(some)} points struck" + (f"; not: {missed}" if missed else "")

            command = f"python -m tests.chaos --points --role {role} --seed {arguments.seed}"
            failed += not _run(f"{role} {first}", command, arguments.seed, once)
    return failed


def _soak(arguments: argparse.Namespace) -> int:
    command = f"python -m tests.chaos --soak --minutes {arguments.minutes}"
    return int(not _run("soak", command, 0, lambda run_dir, _: run_soak(run_dir, arguments.minutes)))


def _overload(arguments: argparse.Namespace) -> int:
    command = f"python -m tests.chaos --overload --signals {arguments.signals}"
    return int(not _run("overload", command, 0, lambda run_dir, _: run_overload(run_dir, arguments.signals)))


def _run(name: str, command: str, seed: int, once: Callable[[Path, int], str]) -> bool:
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="apex-chaos-"))
    try:
        told = once(folder / "run", seed)
    except AssertionError:
        traceback.print_exc()
        print(f"{name}: FAILED after {time.monotonic() - began:.0f} s; left in {folder}. Again: {command}", flush=True)
        return False
    print(f"{name}: equal after {time.monotonic() - began:.0f} s; {told}", flush=True)
    return True


def _counted(done: Counter[str]) -> str:
    kills = sum(count for name, count in done.items() if name.startswith("kill"))
    return f"{kills} kills: " + ", ".join(f"{name} {count}" for name, count in sorted(done.items()))


if __name__ == "__main__":
    raise SystemExit(main())
