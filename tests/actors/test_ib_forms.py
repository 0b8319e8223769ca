"""Translation, pacing, backoff and merging of the IB driver, without a session."""

from __future__ import annotations

import asyncio
import math
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ib_insync.contract import Stock
from ib_insync.objects import CommissionReport, Execution
from ib_insync.order import Order, OrderState
from ib_insync.util import UNSET_DOUBLE, UNSET_INTEGER

from actors.adapters import ib_forms
from actors.adapters.backoff import Backoff
from actors.adapters.ib_pacing import Pacer
from actors.adapters.ib_reading import merged
from actors.adapters.ib_submissions import protects_only
from actors.messages import OrderReported, OrderTicket, OrderType, Side, SubmitOrders
from kernels import ids
from kernels.fixed8 import COUNT_MAX, SCALE

TICKET = OrderTicket(
    client_order_id="ref",
    venue_order_id=5,
    parent_order_id=4,
    symbol="SPY",
    side=Side.SELL,
    order_type=OrderType.STOP_LIMIT,
    qty=10 * SCALE,
    limit_px=49_950_000_000,
    stop_px=50_000_000_000,
    account="DU1",
    transmit=False,
    oca_group="g",
)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0.0, 0),
        (189.55, 18_955_000_000),
        (0.1 + 0.2, 30_000_000),
        (1e-8, 1),
        (1.5e-8, 2),
        (2.5e-8, 2),
        (-12.34, -1_234_000_000),
        (UNSET_DOUBLE, 0),
        (100, 100 * SCALE),
    ],
)
def test_a_double_becomes_the_count_of_its_shortest_decimal(value: float, count: int) -> None:
    assert ib_forms.fixed8_of(value) == count


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-9e10, max_value=9e10))
def test_a_double_is_rounded_to_the_nearest_count_half_to_even(value: float) -> None:
    with localcontext() as context:
        context.prec = 60
        expected = (Decimal(repr(value)) * SCALE).quantize(Decimal(1), ROUND_HALF_EVEN)
    assert ib_forms.fixed8_of(value) == expected


@given(st.integers(min_value=0, max_value=10**15))
def test_an_amount_goes_to_the_wire_and_back_unchanged(count: int) -> None:
    assert ib_forms.fixed8_of(float(str(ib_forms.number_of(count)))) == count


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e12, float(COUNT_MAX)])
def test_a_double_that_is_no_amount_is_refused(value: float) -> None:
    with pytest.raises(ib_forms.FormError):
        ib_forms.fixed8_of(value)


def test_an_order_carries_all_of_its_ticket_and_no_price_that_its_type_does_not_use() -> None:
    order = ib_forms.order_of(TICKET, 7)
    assert (order.orderId, order.parentId, order.clientId, order.orderRef) == (5, 4, 7, "ref")
    assert (order.action, order.orderType, order.totalQuantity, order.tif) == ("SELL", "STP LMT", 10, "GTC")
    assert (order.lmtPrice, order.auxPrice) == (499.5, 500)
    assert (order.account, order.transmit, order.ocaGroup, order.ocaType) == ("DU1", False, "g", 3)
    market = ib_forms.order_of(msgspec.structs.replace(TICKET, order_type=OrderType.MARKET, oca_group=""), 7)
    assert (market.lmtPrice, market.auxPrice) == (UNSET_DOUBLE, UNSET_DOUBLE)
    assert (market.ocaGroup, market.ocaType) == ("", 0)
    stop = ib_forms.order_of(msgspec.structs.replace(TICKET, order_type=OrderType.STOP), 7)
    assert (stop.lmtPrice, stop.auxPrice) == (UNSET_DOUBLE, 500)


@pytest.mark.parametrize(
    "changes",
    [
        {"qty": 0},
        {"qty": COUNT_MAX + 1},
        {"limit_px": 0},
        {"stop_px": -1},
        {"venue_order_id": 0},
        {"client_order_id": ""},
        {"account": "a\0b"},
        {"symbol": "\u6bd4"},
    ],
)
def test_a_ticket_that_would_be_another_order_on_the_wire_is_found_out(changes: dict[str, object]) -> None:
    assert ib_forms.ticket_fault(TICKET) == ""
    assert ib_forms.ticket_fault(msgspec.structs.replace(TICKET, **changes))


def test_what_the_venue_left_unset_is_not_said() -> None:
    stock = Stock("SPY", "SMART", "USD")
    report = ib_forms.open_order("s", UNSET_INTEGER, stock, Order(orderRef="r"), OrderState(status="Submitted"))
    assert (report.venue_order_id, report.limit_px, report.stop_px) == (0, 0, 0)
    assert ib_forms.commission("s", CommissionReport("x", 1.0, "USD", UNSET_DOUBLE)).realized_pnl is None
    assert ib_forms.commission("s", CommissionReport("x", 1.0, "USD", 0.0)).realized_pnl == 0
    with pytest.raises(ib_forms.FormError):
        ib_forms.execution("s", stock, Execution(execId="x", side="?"))


def test_a_commission_that_the_venue_left_unset_is_none_that_was_told() -> None:
    unset = ib_forms.commission("s", CommissionReport("x", UNSET_DOUBLE, "USD", 5.25))
    assert UNSET_DOUBLE == 1.7976931348623157e308
    assert (unset.commission, unset.currency, unset.realized_pnl) == (0, "", 525_000_000)


def test_a_merged_report_keeps_what_only_the_earlier_one_said() -> None:
    opened = OrderReported("s", "r", 5, 77, 7, "PreSubmitted", "SPY", "SELL", "STP", 10, 0, 0, 490, 4)
    status = OrderReported("s", "r", 5, 77, 7, "Submitted", filled_qty=3, why_held="trigger")
    both = merged(opened, status)
    assert (both.status, both.filled_qty, both.why_held, both.stop_px, both.symbol) == (
        "Submitted",
        3,
        "trigger",
        490,
        "SPY",
    )
    assert merged(both, OrderReported("s", "r", 5, 77, 7, "Submitted")).why_held == ""
    assert merged(both, opened).why_held == "trigger"


def test_only_protective_legs_may_go_out_while_halted() -> None:
    def tickets(*legs: str) -> tuple[OrderTicket, ...]:
        return tuple(
            msgspec.structs.replace(TICKET, client_order_id=ids.client_order_id("fund", "s", leg)) for leg in legs
        )

    assert protects_only(SubmitOrders("i", "s", tickets("take_profit", "stop_loss")))
    assert not protects_only(SubmitOrders("i", "s", tickets("entry", "take_profit", "stop_loss")))
    assert not protects_only(SubmitOrders("i", "s", (TICKET,)))
    assert not protects_only(SubmitOrders("i", "s", ()))


def test_no_second_holds_more_messages_than_the_pace_and_waiting_is_in_turn() -> None:
    async def send() -> list[tuple[float, int]]:
        pacer, sent = Pacer(10), []
        loop = asyncio.get_running_loop()

        async def one(number: int, count: int) -> None:
            await pacer.take(count)
            sent.extend([(loop.time(), number)] * count)

        await asyncio.gather(*(one(number, 1 + number % 3) for number in range(12)))
        return sent

    sent = asyncio.run(send())
    assert [number for _, number in sent] == sorted(number for _, number in sent)
    for first, last in zip(sent, sent[10:], strict=False):
        assert last[0] - first[0] >= 1.0 - 0.01  # times are taken after the pacer's own
    with pytest.raises(ValueError, match="11 messages at once"):
        asyncio.run(Pacer(10).take(11))


def test_backoff_doubles_to_its_bound_is_shortened_at_random_and_begins_anew_after_success() -> None:
    randoms = iter([0.0, 0.0, 0.0, 0.0, 1.0, 0.5])
    backoff = Backoff(0.1, 0.5, lambda: next(randoms))
    assert [backoff.next_s() for _ in range(5)] == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.25])
    backoff.reset()
    assert backoff.next_s() == pytest.approx(0.075)
