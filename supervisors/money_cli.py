"""The commands that show money: `orders`, `cycle-orders`, `positions`, `fills`, `reconcile`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Protocol

from msgspec.json import encode as to_json

from config.schema import Settings, load

EXIT_EQUAL, EXIT_DIVERGES = 0, 1
Said = tuple[str, int]
"""What is to be printed, and the exit code."""

Look = Callable[[argparse.Namespace], Said]


class Add(Protocol):
    """Adds a command with the options that all have, and returns its parser."""

    def __call__(self, name: str, look: Look, text: str, /) -> argparse.ArgumentParser:
        """Add one."""


def add_money_commands(add: Add) -> None:
    """Add them to `run.py`'s."""
    orders = add("orders", _orders, "our orders, as the ledger's projection shows them")
    orders.add_argument("--open", action="store_true", help="only those that may still trade")
    orders.add_argument("--symbol", default="", metavar="SYMBOL")
    orders.add_argument(
        "--intent",
        default="",
        metavar="ID",
        help="an intent's, a signal's or an order's id; with its states",
    )
    cycle_orders = add("cycle-orders", _cycle_orders, "the orders of cycles at the spot exchange")
    positions = add("positions", _positions, "our positions, folded from executions, at the last prices heard")
    fills = add("fills", _fills, "executions, with commission and what each realized")
    fills.add_argument("--symbol", default="", metavar="SYMBOL")
    fills.add_argument("--since", metavar="TIME", help="90s, 15m, 2h, 1d before now, or an ISO time; default: all")
    text = "gate, last reads and standing divergences; exit code 0 equal, 1 not"
    reconcile = add("reconcile", _reconcile, text)
    reconcile.add_argument("--now", action="store_true", help="have everything read now, and wait for the result")
    accept = "take the account's cash as it is now for right, and count from there (interest, dividends, transfers)"
    reconcile.add_argument("--accept-cash", action="store_true", help=accept)
    for command in (orders, cycle_orders, positions, fills, reconcile):
        command.add_argument("--json", action="store_true")


def _settings(arguments: argparse.Namespace) -> Settings:
    return load(arguments.config, arguments.set)


def _orders(arguments: argparse.Namespace) -> Said:
    from supervisors.money_look import ORDER_COLUMNS, history_text, order_rows

    rows = order_rows(_settings(arguments), only_open=arguments.open, symbol=arguments.symbol, intent=arguments.intent)
    text, code = _show(arguments, rows, ORDER_COLUMNS, "no orders")
    if arguments.intent and rows and not arguments.json:
        text += "\n\n" + history_text(rows)
    return text, code


def _cycle_orders(arguments: argparse.Namespace) -> Said:
    from supervisors.money_look import CYCLE_COLUMNS, cycle_rows

    return _show(arguments, cycle_rows(_settings(arguments)), CYCLE_COLUMNS, "no orders")


def _positions(arguments: argparse.Namespace) -> Said:
    from supervisors.money_look import POSITION_COLUMNS, position_rows

    return _show(arguments, position_rows(_settings(arguments)), POSITION_COLUMNS, "no positions")


def _fills(arguments: argparse.Namespace) -> Said:
    from supervisors.money_look import FILL_COLUMNS, fill_rows
    from supervisors.opportunities import parse_since

    began_ns = parse_since(arguments.since, time.time_ns()) if arguments.since else 0
    rows = fill_rows(_settings(arguments), symbol=arguments.symbol, since_ns=began_ns)
    return _show(arguments, rows, FILL_COLUMNS, "no fills")


def _show(arguments: argparse.Namespace, rows: list[dict[str, object]], columns: tuple[str, ...], nothing: str) -> Said:
    from supervisors.money_look import rows_json, rows_text

    return (rows_json(rows) if arguments.json else rows_text(rows, columns, nothing)), 0


def _reconcile(arguments: argparse.Namespace) -> Said:
    from supervisors.money_look import ask_now, is_equal, read_reconcile, reconcile_text

    settings = _settings(arguments)
    asks = arguments.now or arguments.accept_cash
    view = ask_now(settings, accept_cash=arguments.accept_cash) if asks else read_reconcile(settings)
    code = EXIT_EQUAL if is_equal(view) else EXIT_DIVERGES
    return (to_json(view).decode() if arguments.json else reconcile_text(view)), code
