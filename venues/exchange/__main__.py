"""`python -m venues.exchange`: the same program as `run.py exchange`."""

from __future__ import annotations

import argparse
import sys

from venues.exchange.server import EXIT_CONFIG, serve
from venues.exchange.settings import SettingsError, add_arguments, settings_from


def main() -> int:
    """Parse the command line and serve until a signal; return the exit code."""
    parser = argparse.ArgumentParser(prog="exchange", description=__doc__)
    add_arguments(parser)
    try:
        settings = settings_from(parser.parse_args())
    except SettingsError as error:
        print(f"exchange: {error}", file=sys.stderr)
        return EXIT_CONFIG
    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
