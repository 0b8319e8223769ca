"""`python -m venues.exchange`: the same program as `run.py exchange`; with `score`, what an engine found."""

from __future__ import annotations

import argparse
import sys

from venues.exchange.score import main as score
from venues.exchange.server import run
from venues.exchange.settings import add_arguments


def main() -> int:
    """Parse the command line and serve until a signal, or score; return the exit code."""
    if sys.argv[1:2] == ["score"]:
        return score(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="exchange", description="A paper spot exchange: REST and WebSocket.")
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
