"""Paper and live cannot be confused: the account's form, the port and the mode must say the same, or nothing starts.

IB names paper accounts `DU…` and `DF…`, live ones `U…` and `F…`, and its programs listen on 4002 and 7497 for paper, on
4001 and 7496 for live. Source: IB's TWS API documentation, "Initial Setup", and account numbers as its programs show
them.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Literal
from urllib.parse import urlsplit

Mode = Literal["paper", "live"]

LIVE_PORTS: Final = frozenset({4001, 7496})
PAPER_PORTS: Final = frozenset({4002, 7497})
_PAPER_ACCOUNT: Final = re.compile(r"D[UF][0-9]+")
_LIVE_ACCOUNT: Final = re.compile(r"[UF][0-9]+")


def account_mode(account: str) -> Mode | None:
    """Return which kind of account its name says that it is; None: it is none of IB's forms."""
    if _PAPER_ACCOUNT.fullmatch(account):
        return "paper"
    return "live" if _LIVE_ACCOUNT.fullmatch(account) else None


def interlock_text(account: str) -> str:
    """Return the words that `run.live_interlock` must hold before money moves in this account."""
    return f"real money in {account}"


def gateway_fault(mode: Mode, account: str, port: int, interlock: str) -> str:
    """Say which of account, port, mode and interlock disagree, with the remedy; empty: all agree."""
    form = "DU… or DF… and digits" if mode == "paper" else "U… or F… and digits"
    if account_mode(account) != mode:
        return (
            f"gateway.account is {account!r} and run.mode is {mode!r}; allowed: an account of the form {form}. Remedy: "
            "name the account of that mode, or change run.mode"
        )
    others, other = (LIVE_PORTS, "live") if mode == "paper" else (PAPER_PORTS, "paper")
    if port in others:
        return (
            f"gateway.port is {port}, where a {other} gateway listens, and run.mode is {mode!r}. Remedy: give the "
            f"{mode} gateway's port, or change run.mode"
        )
    if mode == "live" and port not in LIVE_PORTS:
        return (
            f"gateway.port is {port}; allowed with run.mode 'live': {', '.join(map(str, sorted(LIVE_PORTS)))}. Remedy: "
            "let the live gateway listen on one of them"
        )
    wanted = interlock_text(account)
    if mode == "live" and interlock != wanted:
        return f"run.live_interlock is {interlock!r}; allowed with run.mode 'live': {wanted!r}. Remedy: write just that"
    if mode == "paper" and interlock:
        return f"run.live_interlock is {interlock!r} and run.mode is 'paper'. Remedy: remove it, or change run.mode"
    return ""


def exchange_fault(mode: Mode, dry_run: bool, url: str) -> str:
    """Say why cycles may not be sent to this exchange in this mode; empty: they may, or none are sent."""
    if dry_run or not url or mode == "live" or _is_loopback(urlsplit(url).hostname or ""):
        return ""
    return (
        f"exchange.rest_url is {url!r}, evaluator.dry_run is false and run.mode is 'paper': orders would leave this "
        "machine. Remedy: leave the URL empty for the paper exchange, or set evaluator.dry_run = true"
    )


def session_fault(mode: Mode, accounts: tuple[str, ...]) -> str:
    """Say why a gateway that lists these accounts is not the one that was meant; empty: it is."""
    wrong = [account for account in accounts if account_mode(account) != mode]
    if not wrong:
        return ""
    return f"the gateway has {', '.join(wrong)}, and run.mode is {mode!r}: it is not the gateway that was meant"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
