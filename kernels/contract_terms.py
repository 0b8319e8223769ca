"""What a venue says of a contract, as far as an order has to fit it: price steps, sizes, hours. Exact integers.

Prices, quantities and the multiplier are Fixed8; times are nanoseconds since the epoch. A session is `(start, end)`,
open from its start up to, not including, its end.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

Session = tuple[int, int]


class PriceStep(msgspec.Struct, frozen=True, gc=False):
    """From `low_px` on, up to the next one's, prices are multiples of `step`."""

    low_px: int
    step: int


class ContractTerms(msgspec.Struct, frozen=True, gc=False):
    """`price_steps` ascend and begin at 0. The hours are known up to `hours_until_ns`; `read_ns` is when all was read.

    `liquid` are the regular hours, `trading` those in which an order that says so (outsideRth) trades too.
    """

    symbol: str
    currency: str
    multiplier: int
    price_steps: tuple[PriceStep, ...]
    size_min: int
    size_step: int
    trading: tuple[Session, ...]
    liquid: tuple[Session, ...]
    hours_until_ns: int
    read_ns: int


def step_at(steps: Sequence[PriceStep], px: int) -> int:
    """Return the price step at a price that is not negative."""
    return next(one.step for one in reversed(steps) if one.low_px <= px)


def rounded_px(steps: Sequence[PriceStep], px: int, up: bool) -> int:
    """Return the nearest price on a step, not below (`up`) or not above. A step that begins between two is one."""
    place = next(k for k in range(len(steps) - 1, -1, -1) if steps[k].low_px <= px)
    rest = px % steps[place].step
    if not rest:
        return px
    if not up:
        # Below a level's first multiple lies the level before it, with steps of its own.
        down = px - rest
        return down if down >= steps[place].low_px else rounded_px(steps, steps[place].low_px - 1, up=False)
    above = px - rest + steps[place].step
    if place + 1 < len(steps) and above > steps[place + 1].low_px:
        return rounded_px(steps, steps[place + 1].low_px, up=True)
    return above if above % step_at(steps, above) == 0 else rounded_px(steps, above, up=True)


def is_open(sessions: Sequence[Session], now_ns: int) -> bool:
    """Whether one of the sessions goes on now."""
    return any(start <= now_ns < end for start, end in sessions)


def next_open_ns(sessions: Sequence[Session], now_ns: int) -> int:
    """Return when the next session begins; 0: none is known."""
    return min((start for start, _ in sessions if start > now_ns), default=0)
