"""An account's cash and equity against what our own fills and commissions make of them. Pure; amounts are Fixed8.

What it cannot see: interest, dividends, fees that are no commission, deposits and withdrawals, trades of others. Each
shows as a difference until a person takes the account as it is for the new baseline.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kernels.reconcile import Finding, FindingKind
from kernels.sizing import FIXED


class Worth(msgspec.Struct, frozen=True, gc=False):
    """What the account has: cash, net liquidation, and the venue's own price of each position, by symbol."""

    cash: int
    net_liquidation: int
    px: dict[str, int]


class Baseline(msgspec.Struct, frozen=True):
    """Where counting began: the account's `cash`, our `flow` at that moment, and `other`: equity that is neither cash
    nor a position of ours (accruals). `other` None: somebody else held something, or a price was missing; then equity
    is not compared."""

    account: str
    currency: str
    cash: int
    flow: int
    other: int | None
    at_ns: int
    asked_ns: int = 0
    """Of a person who took it; 0: it was the first read."""


def value_of(held: Iterable[tuple[str, int]], px: dict[str, int]) -> tuple[int, int] | None:
    """Return net and gross value of (symbol, signed quantity); None where one of them has no price."""
    net = gross = 0
    for symbol, qty in held:
        if qty and symbol not in px:
            return None
        worth = qty * px.get(symbol, 0) // FIXED
        net, gross = net + worth, gross + abs(worth)
    return net, gross


def compare_cash(baseline: Baseline, worth: Worth, flow: int, tolerance: int) -> Finding | None:
    """Hold the account's cash against the baseline and our flow since. Differences beyond `tolerance` are one."""
    expected = baseline.cash + flow - baseline.flow
    if abs(worth.cash - expected) <= tolerance:
        return None
    evidence = (
        f"{expected} here ({baseline.cash} at {baseline.at_ns} and {flow - baseline.flow} by fills and commissions), "
        f"{worth.cash} there, {tolerance} allowed (1e-8)"
    )
    return Finding(FindingKind.CASH, f"{baseline.account}.{baseline.currency}", evidence)


def compare_equity(
    baseline: Baseline, worth: Worth, flow: int, held: Iterable[tuple[str, int]], tolerance: int, bps_max: int
) -> Finding | None:
    """Hold net liquidation against expected cash and our positions at the venue's prices, with `bps_max` of their
    gross value to move in between. None too where a position has no price there."""
    valued = value_of(held, worth.px)
    if valued is None or baseline.other is None:
        return None
    net, gross = valued
    expected = baseline.cash + flow - baseline.flow + net + baseline.other
    allowed = tolerance + gross * bps_max // 10_000
    if abs(worth.net_liquidation - expected) <= allowed:
        return None
    evidence = f"{expected} here ({net} of it positions), {worth.net_liquidation} there, {allowed} allowed (1e-8)"
    return Finding(FindingKind.EQUITY, f"{baseline.account}.{baseline.currency}", evidence)
