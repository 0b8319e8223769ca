"""What the exchange charges for a trade: in the asset received, or in its own token at a discount. Pure; Fixed8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from venues.exchange.orders import UNIT

DISCOUNT_ASSET: Final = "BNB"
_RATE_UNIT: Final = 10**8
_VIA: Final = ("USDT", "BTC", "ETH")


class Commission(NamedTuple):
    """An amount and its asset."""

    amount: int
    asset: str


class CommissionPlan(NamedTuple):
    """Rates: counts of 1e-8 (10 bps: 100,000). `discount_pays`: in BNB with `discount` off, where there is enough."""

    rate: int
    rate_of: Mapping[str, int]
    discount_pays: bool
    discount: int = 25 * 10**6

    def of(self, symbol: str) -> int:
        """The rate of a symbol."""
        return self.rate_of.get(symbol, self.rate)


def commission(
    plan: CommissionPlan, symbol: str, asset: str, amount: int, bnb_free: int, mid: Callable[[str], int]
) -> Commission:
    """Return what is charged on `amount` of the asset received, rounded down as the exchange does (it may be zero).

    In BNB where the plan says so, a price for it stands and `bnb_free` covers it; else in the asset itself, in full.
    `mid` returns the middle of a symbol's book, 0 where there is none.
    """
    rate = plan.of(symbol)
    whole = amount * rate // _RATE_UNIT
    if plan.discount_pays:
        worth = amount if asset == DISCOUNT_ASSET else in_asset(amount, asset, DISCOUNT_ASSET, mid)
        if worth is not None:
            bnb = worth * rate * (_RATE_UNIT - plan.discount) // _RATE_UNIT**2
            if bnb <= bnb_free:
                return Commission(bnb, DISCOUNT_ASSET)
    return Commission(whole, asset)


def in_asset(amount: int, asset: str, wanted: str, mid: Callable[[str], int]) -> int | None:
    """Return an amount converted at the middle of the book, directly or over one large asset; None: no price."""
    direct = _converted(amount, asset, wanted, mid)
    if direct is not None:
        return direct
    for via in _VIA:
        first = _converted(amount, asset, via, mid)
        if first is not None and (second := _converted(first, via, wanted, mid)) is not None:
            return second
    return None


def _converted(amount: int, asset: str, wanted: str, mid: Callable[[str], int]) -> int | None:
    if price := mid(wanted + asset):
        return amount * UNIT // price
    if price := mid(asset + wanted):
        return amount * price // UNIT
    return None
