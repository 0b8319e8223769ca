"""Run benchmarks, say a line for each figure, write them all to `benchmarks/results/latest.json`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.registry import BENCHMARKS, chosen
from benchmarks.report import RESULTS, Entry, commit_here, entry_of, line_of, say, this_machine, versions_here
from benchmarks.report import write_results as write

EXIT_OK, EXIT_MISSED, EXIT_USAGE = 0, 1, 64


def main(argv: Sequence[str]) -> int:
    """Return 0; 64 for a name that is none; with --strict 1 where a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(f"{b.name}: {b.about}" for b in BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="few repetitions: shows that it works, proves nothing")
    parser.add_argument("--peers", action="store_true", help="others' engines too, each in an environment made for it")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a goal was missed")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    try:
        benchmarks = chosen(arguments.names)
    except KeyError as error:
        print(f"benchmarks: {error.args[0]}", file=sys.stderr)
        return EXIT_USAGE
    machine, versions, commit = this_machine(), versions_here(), commit_here()
    entries: list[Entry] = []
    where = f"{machine.processor}, {machine.cores} cores, load {machine.load_1m}, scheduling {machine.scheduling}"
    say(f"{where}; Python {versions['python']}; {commit}")
    for benchmark in benchmarks:
        machine = this_machine()
        for measured in benchmark.run(arguments.quick, arguments.peers):
            entry = entry_of(measured, machine, versions, commit, arguments.quick)
            entries.append(entry)
            say(line_of(entry))
        # After each: what was measured is kept if a later one fails.
        write(entries, arguments.output)
    return EXIT_MISSED if arguments.strict and any(entry.met is False for entry in entries) else EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
