#!/usr/bin/env python3
"""Apex, from the command line. Thin: every command is a function elsewhere; here it is parsed, printed and exits."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from msgspec import UNSET, Struct
from msgspec.json import encode as to_json

from config.schema import Settings, SettingsError, load
from kernels.fixed8 import parse_rate_bps
from supervisors.market_cli import Texts, add_commands
from supervisors.money_cli import Look, add_money_commands

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED = 0, 1, 64, 78
WAIT_S_MAX = 86_400
OUR_PACKAGES = ("actors", "config", "kernels", "supervisors", "venues")
LEAVE_THE_VIEW = "\x1b[?1047l\x1b[?25h"
"""The terminal's own screen and its cursor: a view that was killed could not give them back."""


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
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_OK
    except Exception as error:
        code = _exit_code_of(error)
        if code is None:
            raise
        print(f"apex: {error}", file=sys.stderr)
        return code


def _exit_code_of(error: Exception) -> int | None:
    """A typed error of our own, or of a file, is meant for a person: its text is enough. Others are bugs."""
    if isinstance(error, SettingsError):
        return EXIT_REFUSED
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in OUR_PACKAGES:
        return int(getattr(error, "exit_code", EXIT_FAILED))
    return None


def _with_default_command(argv: Sequence[str]) -> list[str]:
    """`run.py` alone, or with options only, means `run.py run`."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        return ["run", *argv]
    return list(argv)


def _settings(arguments: argparse.Namespace) -> Settings:
    return load(arguments.config, arguments.set)


def _run(arguments: argparse.Namespace) -> int:
    from supervisors.engine import run_engine

    settings = _settings(arguments)
    on_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    view = ["--config", arguments.config] if arguments.config else []
    view += [part for override in arguments.set for part in ("--set", override)]
    with_view = on_terminal and not arguments.no_view
    if with_view:
        print(f"Apex starts in {os.path.abspath(settings.run.run_dir)} … (Ctrl-C ends it)", flush=True)
    code, text = run_engine(settings, arguments.fresh, view if with_view else None)
    if with_view:
        print(LEAVE_THE_VIEW, end="", flush=True)
    if text:
        print(text, file=sys.stderr if code else sys.stdout)
    return code


def _status(arguments: argparse.Namespace) -> int:
    from supervisors import commands

    settings = _settings(arguments)
    print(commands.status_json(settings) if arguments.json else commands.status_text(settings))
    return EXIT_OK


def _signal(arguments: argparse.Namespace) -> int:
    from supervisors import commands

    print(commands.send_signals(_settings(arguments), arguments.file))
    return EXIT_OK


def _trace(arguments: argparse.Namespace) -> int:
    from supervisors import commands

    print(commands.trace(_settings(arguments), arguments.id, arguments.chrome))
    return EXIT_OK


def _halt(arguments: argparse.Namespace) -> int:
    from supervisors import commands

    print(commands.halt(_settings(arguments), arguments.reason))
    return EXIT_OK


def _flatten(arguments: argparse.Namespace) -> int:
    from supervisors import commands, flatten

    def say(text: str) -> None:
        print(text, flush=True)

    reason, settings = commands.reason_of(arguments.reason, "flatten"), _settings(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        return flatten.flatten(settings, reason, commands.who(), arguments.timeout_s, say)
    print("the order stands, and is carried out; run it again to wait", file=sys.stderr)
    return EXIT_FAILED


def _resume(arguments: argparse.Namespace) -> int:
    from supervisors import commands

    print(commands.resume(_settings(arguments)))
    return EXIT_OK


def _doctor(arguments: argparse.Namespace) -> int:
    from supervisors.doctor import examine

    findings = examine(_settings(arguments))
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.text}")
    return EXIT_OK if all(finding.ok for finding in findings) else EXIT_FAILED


def _cycles(arguments: argparse.Namespace) -> int:
    from actors.offline import cycles_command

    terms = _settings(arguments).evaluator
    found = cycles_command(Path(arguments.exchange_info), arguments.start, terms.cycle_lengths, terms.cycles_max)
    _print_report(found, arguments.json)
    return EXIT_OK


def _replay(arguments: argparse.Namespace) -> int:
    from actors.adapters.market_wiring import fees_of
    from actors.offline import replay_command

    settings, fee_bps = _settings(arguments), arguments.fee_bps
    report = replay_command(
        [Path(path) for path in arguments.paths],
        Path(arguments.exchange_info),
        arguments.start,
        fee_bps or "0",
        fees=fees_of(settings.exchange) if fee_bps is None else None,
        lengths=settings.evaluator.cycle_lengths,
        cycles_max=settings.evaluator.cycles_max,
    )
    _print_report(report, arguments.json)
    return EXIT_OK


def _print_report(report: Struct, as_json: bool) -> None:
    """One line of JSON, or a line a field."""
    if as_json:
        print(to_json(report).decode())
        return
    for name in report.__struct_fields__:
        if (value := getattr(report, name)) is not UNSET:
            print(f"{name.replace('_', ' '):<20} {value}")


def _printing(texts: Texts) -> Callable[[argparse.Namespace], int]:
    """The command that prints what `texts` gives, until it ends or is told to by Ctrl-C."""

    def call(arguments: argparse.Namespace) -> int:
        with contextlib.suppress(KeyboardInterrupt):
            for text in texts(arguments):
                print(text, flush=True)
        return EXIT_OK

    return call


def _telling(look: Look) -> Callable[[argparse.Namespace], int]:
    """The command that prints what `look` gives, and ends as it says."""

    def call(arguments: argparse.Namespace) -> int:
        text, code = look(arguments)
        print(text)
        return code

    return call


def _cycles_resume(arguments: argparse.Namespace) -> int:
    from supervisors import commands

    print(commands.cycles_resume(_settings(arguments), arguments.reason))
    return EXIT_OK


def _view(arguments: argparse.Namespace) -> int:
    from supervisors.console import show

    return int(show(_settings(arguments)))


class _Parser(argparse.ArgumentParser):
    """Its own exit code for a command line that cannot be meant: systemd must not repeat it."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="run.py", description="Apex: a supervised trading engine.")
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
    add("status", _status, "every process, counters, alarms, gate and halt").add_argument("--json", action="store_true")
    add_money_commands(lambda name, look, text: add(name, _telling(look), text))
    add("signal", _signal, "publish the signal (or array, or lines, of signals) of a JSON file").add_argument("file")
    trace = add("trace", _trace, "the causal chain of a signal, intent, order or execution")
    trace.add_argument("id")
    trace.add_argument("--chrome", metavar="FILE", help="write it for a trace viewer, too")
    add("halt", _halt, "latch a halt: nothing opens risk until `resume`").add_argument("reason")
    flatten = add("flatten", _flatten, "halt, cancel what would open risk, close every position, wait until flat")
    flatten.add_argument("reason")
    flatten.add_argument("--timeout-s", type=_seconds, default=120.0, metavar="S", help="how long to wait (120)")
    add("resume", _resume, "clear the halt, and end a flatten")
    word = "let cycles go on: clear the circuit breaker, take the account as it is for right"
    add("cycles-resume", _cycles_resume, word).add_argument("reason")
    add("doctor", _doctor, "look at this machine and these settings before trading on them")
    add("view", _view, "the terminal view of a running engine")
    add_commands(lambda name, texts, text: add(name, _printing(texts), text))
    cycles = add("cycles", _cycles, "count the cycles of an exchangeInfo file")
    cycles.add_argument("exchange_info", metavar="EXCHANGE_INFO")
    cycles.add_argument("--start", metavar="ASSET", default=None, help="only cycles that begin and end here")
    cycles.add_argument("--json", action="store_true")
    _add_replay(add("replay", _replay, "fold recorded frames through book and evaluator"))
    _add_exchange(commands)
    commands.add_parser("gateway", help="the paper IB Gateway alone (its own --help)", add_help=False)
    return parser


def _seconds(text: str) -> float:
    """Raises ArgumentTypeError for what is no time to wait; `float` takes nan and negative ones."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= WAIT_S_MAX:
        raise argparse.ArgumentTypeError(f"is {text!r}; allowed: 0 to {WAIT_S_MAX} seconds")
    return seconds


def _rate_bps(text: str) -> str:
    """Raises ArgumentTypeError for what is no rate."""
    try:
        parse_rate_bps(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; allowed: 0 to below 10000 basis points, e.g. 7.5") from error
    return text


def _add_replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument("paths", nargs="+", metavar="PATH", help="bookTicker snapshots or recorded streams")
    replay.add_argument("--exchange-info", required=True, metavar="FILE")
    replay.add_argument("--start", metavar="ASSET", default=None, help="start asset of the cycles; default: any")
    word = "taker fee a leg, of every market; default: the settings'"
    replay.add_argument("--fee-bps", type=_rate_bps, metavar="BPS", help=word)
    replay.add_argument("--json", action="store_true")


def _add_exchange(commands: argparse._SubParsersAction[_Parser]) -> None:
    from venues.exchange import add_arguments

    exchange = commands.add_parser("exchange", help="the paper spot exchange alone")
    add_arguments(exchange)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
