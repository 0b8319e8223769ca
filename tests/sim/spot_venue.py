"""A spot exchange in the simulation: a market that moves, one account, orders that fill as chance will have it.

It believes its own books only, and breaks a law as soon as it sees what must never be: a client order id used twice, an
order whose request is older than it takes a request for valid.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.messages import (
    Side,
    SpotBalance,
    SpotExecutionReported,
    SpotOrderReported,
    SpotTicket,
)
from kernels.exchange_info import Symbol
from tests.sim.scheduler import SECOND, Scheduler, Violation

E8 = 10**8
RECV_WINDOW_NS = 5 * SECOND
FEE_E8 = 100_000

LISTED = (
    Symbol("BTCUSDT", "TRADING", "BTC", "USDT", E8 // 100, E8 // 10_000, E8 // 10_000, 9_000 * E8, 5 * E8),
    Symbol("ETHBTC", "TRADING", "ETH", "BTC", E8 // 100_000, E8 // 1_000, E8 // 1_000, 9_000 * E8, E8 // 10_000),
    Symbol("ETHUSDT", "TRADING", "ETH", "USDT", E8 // 100, E8 // 1_000, E8 // 1_000, 9_000 * E8, 5 * E8),
)
FIRST_PX = {"BTCUSDT": 20_000 * E8, "ETHBTC": 5 * E8 // 100, "ETHUSDT": 1_000 * E8}


@dataclass
class VenueOrder:
    """An order as the exchange keeps it."""

    ticket: SpotTicket
    order_id: int
    status: str = "NEW"
    cum_qty: int = 0
    cum_quote: int = 0
    trades: list[SpotExecutionReported] = field(default_factory=list)


class SpotVenue:
    """`hear` gets every report, for the streams that are open."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.symbols = {symbol.name: symbol for symbol in LISTED}
        self.bids = dict(FIRST_PX)
        self.balances = {"USDT": 50_000 * E8, "BTC": 2 * E8, "ETH": 40 * E8, "BNB": 10 * E8}
        self.first = dict(self.balances)
        self.orders: dict[str, VenueOrder] = {}
        self.trade_ids = 0
        self.sessions = 0
        self.fill_whole = False
        self.listeners: list[object] = []

    # ---- the market

    def move(self) -> None:
        """Each market takes a step; now and then one that matters."""
        random = self.scheduler.random
        for name, bid in self.bids.items():
            by = random.randint(-3, 3) if random.random() < 0.9 else random.randint(-60, 60)
            first = FIRST_PX[name]
            tick = self.symbols[name].tick_size
            self.bids[name] = max(first * 9 // 10, min(first * 11 // 10, bid + bid * by // 10_000)) // tick * tick

    def top(self, name: str) -> tuple[int, int]:
        """Bid and ask."""
        bid = self.bids[name]
        return bid, bid + self.symbols[name].tick_size

    # ---- orders

    def take(self, ticket: SpotTicket, signed_ns: int) -> VenueOrder | str:
        """Execute an immediate-or-cancel order, or refuse it."""
        if self.scheduler.now_ns - signed_ns > RECV_WINDOW_NS:
            return "-1021"
        if ticket.client_order_id in self.orders:
            raise Violation("no order is doubled", f"{ticket.client_order_id} reached the exchange twice")
        symbol, random = self.symbols[ticket.symbol], self.scheduler.random
        if ticket.qty % symbol.lot_size or ticket.limit_px % symbol.tick_size or ticket.qty < symbol.min_qty:
            raise Violation("an order is one that the exchange takes", f"{ticket}")
        if ticket.qty * ticket.limit_px < symbol.min_notional * E8:
            raise Violation("an order is one that the exchange takes", f"minimum notional: {ticket}")
        buys = ticket.side is Side.BUY
        spent = -(-ticket.qty * ticket.limit_px // E8) if buys else ticket.qty
        if spent > self.balances.get(symbol.quote if buys else symbol.base, 0):
            return "-2010"
        order = VenueOrder(ticket, len(self.orders) + 1)
        self.orders[ticket.client_order_id] = order
        bid, ask = self.top(ticket.symbol)
        reached = ticket.limit_px >= ask if buys else ticket.limit_px <= bid
        share = 1.0 if self.fill_whole else random.choice((1.0,) * 6 + (0.0, random.random()))
        qty = int(ticket.qty * share) // symbol.lot_size * symbol.lot_size if reached else 0
        parts = [qty] if qty < 2 * symbol.lot_size else [qty - symbol.lot_size, symbol.lot_size]
        for part in parts:
            if part:
                self._trade(order, part, ask if buys else bid)
        order.status = "FILLED" if order.cum_qty == ticket.qty else "EXPIRED"
        return order

    def _trade(self, order: VenueOrder, qty: int, px: int) -> None:
        ticket, symbol = order.ticket, self.symbols[order.ticket.symbol]
        quote_qty = qty * px // E8
        self.trade_ids += 1
        buys = ticket.side is Side.BUY
        received, amount = (symbol.base, qty) if buys else (symbol.quote, quote_qty)
        in_token = self.scheduler.random.random() < 0.2
        asset, commission = ("BNB", 1_234) if in_token else (received, amount * FEE_E8 // E8)
        sign = 1 if buys else -1
        for one, change in ((symbol.base, sign * qty), (symbol.quote, -sign * quote_qty), (asset, -commission)):
            self.balances[one] = self.balances.get(one, 0) + change
            if self.balances[one] < 0:
                raise Violation("no balance is overdrawn", f"{one} by {ticket}")
        order.cum_qty += qty
        order.cum_quote += quote_qty
        order.trades.append(
            SpotExecutionReported(
                session_id="",
                symbol=ticket.symbol,
                trade_id=self.trade_ids,
                client_order_id=ticket.client_order_id,
                venue_order_id=order.order_id,
                side=ticket.side,
                last_qty=qty,
                last_px=px,
                quote_qty=quote_qty,
                commission=commission,
                commission_asset=asset,
                ts_event_ns=self.scheduler.now_ns,
            )
        )

    def report(self, order: VenueOrder, session_id: str) -> SpotOrderReported:
        """The order as it stands."""
        return SpotOrderReported(
            session_id=session_id,
            symbol=order.ticket.symbol,
            client_order_id=order.ticket.client_order_id,
            venue_order_id=order.order_id,
            status=order.status,
            side=order.ticket.side,
            qty=order.ticket.qty,
            limit_px=order.ticket.limit_px,
            cum_qty=order.cum_qty,
            cum_quote_qty=order.cum_quote,
            ts_event_ns=self.scheduler.now_ns,
        )

    def account(self) -> dict[str, SpotBalance]:
        """All balances."""
        return {asset: SpotBalance(amount, 0) for asset, amount in self.balances.items() if amount}
