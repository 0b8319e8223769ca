"""The command line of the paper gateway: `run.py gateway …` and `python -m venues.gateway …`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from venues.gateway.server import serve
from venues.gateway.settings import GatewaySettings, Manners

PARTIAL_PARENT = ("wait", "follow", "keep")


def _parser() -> argparse.ArgumentParser:
    defaults = GatewaySettings()
    parser = argparse.ArgumentParser(
        prog="gateway", description="A paper IB Gateway: the TWS socket protocol, its own market, its own state."
    )
    add = parser.add_argument
    add("--port", type=int, default=defaults.port, help="TWS protocol port (0: any free one; default %(default)s)")
    add("--control", type=int, default=0, metavar="PORT", help="control port (default 0: any free one)")
    add("--state", type=_folder, default=defaults.state_dir, metavar="DIR", help="state folder (default %(default)s)")
    add("--account", default=defaults.account)
    add("--cash", type=Decimal, default=defaults.cash_start, help="of a new account (default %(default)s)")
    add("--seed", type=int, default=defaults.seed, help="of the price walk")
    add("--no-walk", action="store_true", help="prices move only by the control port")
    add("--symbols", default=",".join(defaults.symbols), help="A,B,… (default %(default)s)")
    add("--tick-ms", type=int, default=defaults.tick_ms)
    add("--volatility-bps", type=float, default=defaults.volatility_bps, help="of a tick")
    add("--fill-delay-ms", type=int, default=0, help="time between acceptance and the first possible fill")
    add("--messages-per-s", type=int, default=defaults.messages_per_s_max, help="of a session; 0: no limit")
    add("--presubmit-first", action="store_true", help="tell PreSubmitted before Submitted")
    add("--pending-cancel", action="store_true", help="tell PendingCancel before Cancelled")
    add("--partial-parent", choices=PARTIAL_PARENT, default="wait", help="children of a partly filled parent")
    add("--market-data", choices=("live", "delayed", "none"), default="live", help="what the account has subscribed to")
    add("--hours", choices=("always", "exchange"), default="always", help="when it trades (default %(default)s)")
    add("--restart-at", default="", metavar="HH:MM", help="nightly restart, UTC (default: none)")
    add("--restart-s", type=float, default=defaults.restart_s, help="how long it is gone (default %(default)s)")
    add("--restart-loses-ms", type=int, default=defaults.restart_loses_ms, help="unfilled orders that it forgets")
    add("--ready-file", type=Path, help="written as gateway.json is, once it serves")
    add("--ready-fd", type=int, help="file descriptor that gets the same line and is then closed")
    add("--lifeline-fd", type=int, help="a pipe: end when its other end is closed")
    add("--verbose", action="store_true")
    return parser


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a folder")
    return Path(text)


def settings_from(argv: Sequence[str]) -> tuple[GatewaySettings, bool]:
    """Return the settings of a command line, and whether it wants debug logs. Raises ValueError; exits on bad usage."""
    given = _parser().parse_args(argv)
    manners = Manners(
        presubmit_first=given.presubmit_first,
        pending_cancel=given.pending_cancel,
        partial_parent=given.partial_parent,
        fill_delay_ms=given.fill_delay_ms,
        market_data=given.market_data,
    )
    settings = GatewaySettings(
        state_dir=given.state,
        port=given.port,
        control_port=given.control,
        account=given.account,
        cash_start=given.cash,
        symbols=tuple(symbol.strip() for symbol in given.symbols.split(",") if symbol.strip()),
        seed=given.seed,
        walk=not given.no_walk,
        tick_ms=given.tick_ms,
        volatility_bps=given.volatility_bps,
        messages_per_s_max=given.messages_per_s,
        manners=manners,
        hours=given.hours,
        restart_at=given.restart_at,
        restart_s=given.restart_s,
        restart_loses_ms=given.restart_loses_ms,
        ready_file=given.ready_file,
        ready_fd=given.ready_fd,
        lifeline_fd=given.lifeline_fd,
    )
    return settings, given.verbose


def main(argv: Sequence[str]) -> int:
    """Run a gateway by its command line; return an exit code (2: it could not start)."""
    try:
        settings, verbose = settings_from(argv)
    except ValueError as problem:
        print(f"gateway: {problem}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    return serve(settings)
