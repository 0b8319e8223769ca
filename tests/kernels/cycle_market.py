"""A made market for cycles, and an exchange that fills orders of it as a seed says. Decimal arithmetic of its own."""

from __future__ import annotations

import random
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction

from kernels.cycle_execution import Attempt, CycleOrder, PlannedLeg, Top
from kernels.fixed8 import SCALE

ASSETS = ("USDT", "BTC", "ETH", "BNB")


def e8(text: str) -> int:
    return int(Decimal(text) * SCALE)


def leg(symbol: str, side: str, base: str, quote: str, px: str, qty: str, **more: str) -> PlannedLeg:
    """A leg with its sums worked out in decimals, rounded against us."""
    price, amount = Decimal(px), Decimal(qty)
    fee_share = Decimal(more.get("fee", "0.001"))
    whole = amount if side == "BUY" else amount * price
    spent = amount * price if side == "BUY" else amount
    received = (whole * (1 - fee_share)).quantize(Decimal("1e-8"), ROUND_FLOOR)
    return PlannedLeg(
        symbol=symbol,
        side=side,
        base=base,
        quote=quote,
        limit_px=e8(px),
        qty=e8(qty),
        spent=int((spent * SCALE).to_integral_value(rounding="ROUND_CEILING")),
        fee=e8(str(whole)) - int(received * SCALE),
        received=int(received * SCALE),
        fee_e8=e8(str(fee_share)),
        tick_size=e8(more.get("tick", "0.01")),
        lot_size=e8(more.get("lot", "0.0001")),
        min_qty=e8(more.get("min_qty", "0.0001")),
        max_qty=e8(more.get("max_qty", "9000")),
        min_notional=e8(more.get("min_notional", "0")),
    )


def triangle(**more: str) -> tuple[PlannedLeg, ...]:
    """USDT → BTC → ETH → USDT: gains about 2 % at these prices after fees of 10 bps a leg."""
    in_btc = {**more, "tick": "0.00001", "lot": "0.001"}
    if "min_notional" in more:
        in_btc["min_notional"] = "0.0005"
    return (
        leg("BTCUSDT", "BUY", "BTC", "USDT", "20000", "0.05", **more),
        leg("ETHBTC", "BUY", "ETH", "BTC", "0.05", "0.998", **in_btc),
        leg("ETHUSDT", "SELL", "ETH", "USDT", "1025", "0.997", **{**more, "lot": "0.001"}),
    )


def square() -> tuple[PlannedLeg, ...]:
    """USDT → BTC → BNB → ETH → USDT, two legs sold."""
    return (
        leg("BTCUSDT", "BUY", "BTC", "USDT", "20000", "0.05"),
        leg("BNBBTC", "BUY", "BNB", "BTC", "0.0125", "3.996", tick="0.000001", lot="0.001"),
        leg("BNBETH", "SELL", "BNB", "ETH", "0.255", "3.992", tick="0.00001", lot="0.001"),
        leg("ETHUSDT", "SELL", "ETH", "USDT", "1010", "1.016", lot="0.001"),
    )


def tops_of(legs: tuple[PlannedLeg, ...], *, live: bool = True, spread_e4: int = 5) -> dict[str, Top]:
    """Each market standing exactly where its leg's limit is."""
    found = {}
    for one in legs:
        off = one.limit_px * spread_e4 // 10_000
        bid, ask = (one.limit_px - off, one.limit_px) if one.side == "BUY" else (one.limit_px, one.limit_px + off)
        found[one.symbol] = Top(bid, ask, live)
    return found


def moved(tops: dict[str, Top], source: random.Random, most_e4: int) -> dict[str, Top]:
    """The market a moment later."""
    after = {}
    for symbol, top in tops.items():
        by = source.randint(-most_e4, most_e4)
        after[symbol] = Top(top.bid_px * (10_000 + by) // 10_000, top.ask_px * (10_000 + by) // 10_000 + 1, top.live)
    return after


class Venue:
    """Fills immediate-or-cancel orders out of its own balances, and refuses what an exchange would."""

    def __init__(self, source: random.Random, *, held: dict[str, Decimal], commission_asset: str = "") -> None:
        self.source = source
        self.balances = dict(held)
        self.commission_asset = commission_asset
        self.placed: list[str] = []

    def execute(self, leg: PlannedLeg, order: CycleOrder, top: Top, share: Decimal) -> tuple[int, int, dict[str, int]]:
        """Fill `share` of the order where its limit reaches the top."""
        price, qty = Decimal(order.limit_px) / SCALE, Decimal(order.qty) / SCALE
        assert order.key not in self.placed, "placed twice"
        self.placed.append(order.key)
        assert order.qty % leg.lot_size == 0, "off lot"
        assert order.limit_px % leg.tick_size == 0, "off tick"
        assert leg.min_qty <= order.qty <= leg.max_qty
        assert qty * price >= Decimal(leg.min_notional) / SCALE, "below the minimum notional"
        at = Decimal(top.ask_px if order.side == "BUY" else top.bid_px) / SCALE
        if (price < at) if order.side == "BUY" else (price > at):
            return 0, 0, {}
        lot = Decimal(leg.lot_size) / SCALE
        filled = (qty * share / lot).to_integral_value(ROUND_FLOOR) * lot
        if not filled:
            return 0, 0, {}
        quoted = (filled * at).quantize(Decimal("1e-8"), ROUND_FLOOR)
        received, got = (leg.base, filled) if order.side == "BUY" else (leg.quote, quoted)
        charged = self.commission_asset or received
        rate = Decimal(leg.fee_e8) / SCALE
        commission = (
            (got * rate).quantize(Decimal("1e-8"), ROUND_FLOOR) if charged == received else Decimal("0.00012345")
        )
        self.move(leg.base, filled if order.side == "BUY" else -filled)
        self.move(leg.quote, -quoted if order.side == "BUY" else quoted)
        self.move(charged, -commission)
        return e8(str(filled)), e8(str(quoted)), {charged: e8(str(commission))}

    def move(self, asset: str, amount: Decimal) -> None:
        self.balances[asset] = self.balances.get(asset, Decimal(0)) + amount
        assert self.balances[asset] >= 0, f"the exchange refuses: {asset} would be {self.balances[asset]}"


def naive_flows(attempt: Attempt) -> dict[str, Fraction]:
    """What the orders changed of each asset, in fractions of a unit."""
    flows: dict[str, Fraction] = {}
    for order in attempt.orders:
        one = attempt.legs[order.leg]
        base, quote = Fraction(order.cum_qty, SCALE), Fraction(order.cum_quote_qty, SCALE)
        changes = (
            [(one.base, base), (one.quote, -quote)] if order.side == "BUY" else [(one.base, -base), (one.quote, quote)]
        )
        changes += [(asset, -Fraction(paid, SCALE)) for asset, paid in order.commissions.items()]
        for asset, change in changes:
            flows[asset] = flows.get(asset, Fraction(0)) + change
    return flows
