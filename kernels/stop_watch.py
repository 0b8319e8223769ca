"""Whether a market that printed prices has gone through a stop, and for how long without its filling.

A sell stop is due when a price at or below its trigger was printed, a buy stop when one at or above was. Once due it
stays due: a market that comes back does not take the obligation back. What a fill shows restarts the clock, and what
has filled whole owes nothing. Everything here is a fact of prices and times that are passed in.

Source: field note 5 (a stop acknowledged, shown as working, never triggered); the rule is derived here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

EVIDENCE_MAX = 8
"""Prints kept of a crossing: the first half of them the first, the rest the latest."""


class Range(msgspec.Struct, frozen=True, gc=False):
    """The extremes that a market printed in an interval, Fixed8, with their times; `count` prints in all."""

    low_px: int
    low_ns: int
    high_px: int
    high_ns: int
    count: int = 1


class Print(msgspec.Struct, frozen=True, gc=False):
    """One price at one time."""

    px: int
    at_ns: int


class Crossing(msgspec.Struct, frozen=True, gc=False):
    """A stop that is due: since when, the print furthest through it, and some of the prints."""

    since_ns: int
    worst_px: int
    prints: tuple[Print, ...]


def crossing_print(is_sell: bool, stop_px: int, seen: Range, active_ns: int) -> Print | None:
    """Return the print of a range that makes a stop due, if one does and is later than `active_ns`."""
    found = Print(seen.low_px, seen.low_ns) if is_sell else Print(seen.high_px, seen.high_ns)
    through = found.px <= stop_px if is_sell else found.px >= stop_px
    return found if through and found.at_ns > active_ns else None


def with_print(crossing: Crossing | None, is_sell: bool, seen: Print) -> Crossing:
    """Return the crossing with one more print: the first begins it; at most `EVIDENCE_MAX` are kept."""
    if crossing is None:
        return Crossing(seen.at_ns, seen.px, (seen,))
    worst = min(crossing.worst_px, seen.px) if is_sell else max(crossing.worst_px, seen.px)
    prints = crossing.prints
    if len(prints) < EVIDENCE_MAX:
        prints = (*prints, seen)
    elif worst != crossing.worst_px:
        prints = (*prints[: EVIDENCE_MAX // 2], *prints[EVIDENCE_MAX // 2 + 1 :], seen)
    return Crossing(crossing.since_ns, worst, prints)


def is_inert(crossing: Crossing | None, progress_ns: int, now_ns: int, grace_ns: int) -> bool:
    """Whether a stop has been due for `grace_ns`, counted from its last fill (`progress_ns`) where one came later."""
    return crossing is not None and now_ns - max(crossing.since_ns, progress_ns) >= grace_ns


def unprotected_qty(position_qty: int, stops: Iterable[tuple[bool, int]]) -> int:
    """Return how much of a signed position no working stop would close, as a count of 1e-8, at least 0.

    `stops`: (is_sell, quantity left) of those that work. Only those on the closing side count.
    """
    closing = sum(qty for is_sell, qty in stops if is_sell == (position_qty > 0))
    return max(abs(position_qty) - closing, 0)


def open_qty(entry_qty: int, exit_qtys: Iterable[int]) -> int:
    """Return what a bracket still holds: filled of its entry less what filled of its ways out; never below 0."""
    return max(entry_qty - sum(exit_qtys), 0)


def closing_qty(held_qty: int, is_sell: bool, position_qty: int, explained: Mapping[str, int], symbol: str) -> int:
    """Return how much of a bracket's `held_qty` a market order may close without turning the position over.

    All of it where the brackets explain the position (`explained`: signed sum of what brackets hold, by symbol): then a
    second bracket on the other side is why the two differ. Else at most what the position itself has on that side.
    """
    if explained.get(symbol, 0) == position_qty:
        return held_qty
    on_side = position_qty if is_sell else -position_qty
    return max(min(held_qty, on_side), 0)
