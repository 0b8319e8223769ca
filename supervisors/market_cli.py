"""The commands that show the market: `book`, `cycle`, `opportunities`, `latency`, `alarms`.

Each gives what is to be printed, a text at a time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from msgspec.json import encode as to_json

from config.schema import Settings, load

Texts = Callable[[argparse.Namespace], Iterator[str]]
WATCH_S = 1.0
ROWS_MAX = 20
CLEAR = "\x1b[H\x1b[2J"


class Add(Protocol):
    """Adds a command with the options that all have, and returns its parser."""

    def __call__(self, name: str, texts: Texts, text: str) -> argparse.ArgumentParser:
        """Add one."""


def add_commands(add: Add) -> None:
    """Add them to `run.py`'s."""
    book = add("book", _book, "one symbol's row as it stands, its connection and its depth")
    book.add_argument("symbol")
    book.add_argument("--json", action="store_true")
    book.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    cycle = add("cycle", _cycle, "one cycle's legs as they stand, and each step of its arithmetic")
    cycle.add_argument("legs", metavar="LEGS", help="e.g. BTCUSDT:BUY,ETHBTC:BUY,ETHUSDT:SELL")
    cycle.add_argument("--exchange-info", metavar="FILE", help="with --rows: no engine is asked")
    cycle.add_argument("--rows", metavar="FILE", help="a bookTicker snapshot: the rows to take")
    cycle.add_argument("--json", action="store_true")
    found = add("opportunities", _opportunities, "the run's opportunities by cycle, or a picture of them over time")
    found.add_argument("--since", metavar="TIME", help="90s, 15m, 2h, 1d before now, or an ISO time; default: all")
    found.add_argument("--svg", metavar="FILE", help="write the picture")
    found.add_argument("--top", type=_top, default=8, metavar="N", help="cycles with a colour of their own, 1 to 8")
    found.add_argument("--json", action="store_true")
    add("latency", _latency, "how long frames take to rows, decisions and opportunities").add_argument(
        "--json", action="store_true"
    )
    alarms = add("alarms", _alarms, "what stands, and what was raised and cleared before")
    alarms.add_argument("--last", type=_last, default=20, metavar="N", help="lines of the history (default 20)")
    alarms.add_argument("--ack", metavar="NAME", help="say that you have seen one that waits for a person; needs --why")
    alarms.add_argument("--why", metavar="TEXT", default="", help="with --ack: what was looked at")
    alarms.add_argument("--json", action="store_true")


def _settings(arguments: argparse.Namespace) -> Settings:
    return load(arguments.config, arguments.set)


def _top(text: str) -> int:
    return _within(text, 1, 8)


def _last(text: str) -> int:
    return _within(text, 0, 10_000)


def _within(text: str, low: int, high: int) -> int:
    if not text.isdigit() or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"{text!r}: must be {low} to {high}")
    return int(text)


def _book(arguments: argparse.Namespace) -> Iterator[str]:
    from supervisors.market_look import look_at_symbol, open_image_of
    from supervisors.market_text import book_text

    settings = _settings(arguments)
    mapped = open_image_of(settings)
    while True:
        look = look_at_symbol(settings, arguments.symbol, mapped)
        clear = CLEAR if arguments.watch and not arguments.json and sys.stdout.isatty() else ""
        yield clear + (to_json(look).decode() if arguments.json else book_text(look))
        if not arguments.watch:
            return
        time.sleep(WATCH_S)
        if not mapped.is_current():
            mapped = open_image_of(settings)


def _cycle(arguments: argparse.Namespace) -> Iterator[str]:
    from supervisors.market_look import BadCycle, decide_cycle, market_of_files, market_of_image, open_image_of
    from supervisors.market_text import cycle_text

    settings = _settings(arguments)
    if bool(arguments.exchange_info) != bool(arguments.rows):
        raise BadCycle("--exchange-info and --rows go together: the listing, and a bookTicker snapshot of its rows")
    if arguments.rows:
        market = market_of_files(Path(arguments.exchange_info), Path(arguments.rows))
    else:
        market = market_of_image(open_image_of(settings))
    decision = decide_cycle(settings, arguments.legs, market)
    yield to_json(decision).decode() if arguments.json else cycle_text(decision, market.symbols)


def _opportunities(arguments: argparse.Namespace) -> Iterator[str]:
    from supervisors.opportunities import read_opportunities, table_text
    from supervisors.opportunity_picture import opportunity_svg

    found = read_opportunities(_settings(arguments), arguments.since)
    if arguments.svg:
        Path(arguments.svg).write_text(opportunity_svg(found, arguments.top), encoding="utf-8")
    table = found.table()
    if arguments.json:
        yield to_json(table).decode()
    elif arguments.svg:
        yield f"{arguments.svg}: {table.opportunities} opportunities on {len(table.cycles)} cycles"
    else:
        yield table_text(table, ROWS_MAX)


def _latency(arguments: argparse.Namespace) -> Iterator[str]:
    from supervisors.latency import latency_text, read_latency

    report = read_latency(_settings(arguments))
    yield to_json(report).decode() if arguments.json else latency_text(report)


def _alarms(arguments: argparse.Namespace) -> Iterator[str]:
    from supervisors.alarm_list import acknowledge, acknowledged_text, alarms_text, read_alarms
    from supervisors.commands import NoReason

    if arguments.ack is not None:
        words = acknowledge(_settings(arguments), arguments.ack, arguments.why)
        yield to_json(words).decode() if arguments.json else acknowledged_text(words)
        return
    if arguments.why:
        raise NoReason("--why says why an alarm is acknowledged. Remedy: name the alarm with --ack")
    found = read_alarms(_settings(arguments), arguments.last)
    yield to_json(found).decode() if arguments.json else alarms_text(found)
