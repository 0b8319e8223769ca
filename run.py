#!/usr/bin/env python3
"""Apex, from the command line. Thin: every command is a function elsewhere; here it is parsed, printed and exits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from config.schema import Settings, SettingsError, load

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOT_RUNNING, EXIT_REFUSED = 0, 1, 64, 69, 78


def main(argv: Sequence[str]) -> int:
    """Run one command; return its exit code: 0 done, 1 failed, 64 usage, 69 no engine, 75 halted, 78 refused."""
    if argv and argv[0] == "gateway":
        from venues.gateway import main as gateway_main

        return int(gateway_main(list(argv[1:])))
    parser = _parser()
    arguments = parser.parse_args(_with_default_command(argv))
    if arguments.command == "exchange":
        from venues.exchange import run as exchange_run

        return int(exchange_run(arguments))
    command: Callable[[argparse.Namespace], int] = arguments.call
    try:
        return command(arguments)
    except SettingsError as error:
        print(f"apex: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_OK


def _with_default_command(argv: Sequence[str]) -> list[str]:
    """`run.py` alone, or with options only, means `run.py run`."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        return ["run", *argv]
    return list(argv)


def _settings(arguments: argparse.Namespace) -> Settings:
    return load(arguments.config, arguments.set)


def _run(arguments: argparse.Namespace) -> int:
    from supervisors.engine import run_engine

    code, text = run_engine(_settings(arguments), fresh=arguments.fresh, with_view=not arguments.no_view)
    if text:
        print(text, file=sys.stderr if code else sys.stdout)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description="Apex: a supervised trading engine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, call: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", metavar="FILE", help="settings (TOML); default: the built-in paper settings")
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one setting")
        command.set_defaults(call=call)
        return command

    run = add("run", _run, "start the whole engine (the default)")
    run.add_argument("--fresh", action="store_true", help="empty the run directory first: a new ledger, new venues")
    run.add_argument("--no-view", action="store_true", help="log lines even on a terminal")
    _add_exchange(commands)
    commands.add_parser("gateway", help="the paper IB Gateway alone (its own --help)", add_help=False)
    return parser


def _add_exchange(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from venues.exchange import add_arguments

    exchange = commands.add_parser("exchange", help="the paper spot exchange alone")
    add_arguments(exchange)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
