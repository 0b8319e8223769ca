"""What replies and events of the spot exchange become, and what a refusal proves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.adapters import spot_forms
from actors.adapters.spot_forms import ListenKeyExpired, OtherEvent, Unreadable
from actors.messages import (
    Side,
    SpotBalance,
    SpotBalancesReported,
    SpotExecutionReported,
    SpotOrderRefused,
    SpotOrderReported,
    SpotOutcomeUnknown,
    SpotTicket,
)
from kernels.fixed8 import SCALE

TICKET = SpotTicket("mine-1", "BTCUSDT", Side.BUY, SCALE // 100, 60_000 * SCALE)

REPLY: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "orderId": 28,
    "orderListId": -1,
    "clientOrderId": "mine-1",
    "transactTime": 1507725176595,
    "price": "60000.00000000",
    "origQty": "0.01000000",
    "executedQty": "0.00700000",
    "origQuoteOrderQty": "0.00000000",
    "cummulativeQuoteQty": "419.99300000",
    "status": "EXPIRED",
    "timeInForce": "IOC",
    "type": "LIMIT",
    "side": "BUY",
    "workingTime": 1507725176595,
    "selfTradePreventionMode": "NONE",
    "fills": [
        {"price": "59999.00000000", "qty": "0.00700000", "commission": "0.00000700", "commissionAsset": "BTC",
         "tradeId": 56}
    ],
}  # fmt: skip

REPORT: dict[str, Any] = {
    "e": "executionReport", "E": 1499405658658, "s": "ETHBTC", "c": "mine-1", "S": "SELL", "o": "LIMIT", "f": "GTC",
    "q": "1.00000000", "p": "0.10264410", "P": "0.00000000", "F": "0.00000000", "g": -1, "C": "", "x": "TRADE",
    "X": "PARTIALLY_FILLED", "r": "NONE", "i": 4293153, "l": "0.25000000", "z": "0.50000000", "L": "0.10264420",
    "n": "0.00002566", "N": "BTC", "T": 1499405658657, "t": 77, "I": 8641984, "w": True, "m": False, "M": True,
    "O": 1499405658657, "Z": "0.05132210", "Y": "0.02566105", "Q": "0.00000000", "W": 1499405658657, "V": "NONE",
}  # fmt: skip


def body(value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_full_reply_is_a_report_and_an_execution_for_each_fill() -> None:
    report, fill = spot_forms.outcome("s", TICKET, 200, body(REPLY))
    assert isinstance(report, SpotOrderReported)
    assert (report.venue_order_id, report.status, report.qty, report.cum_qty, report.cum_quote_qty) == (
        28,
        "EXPIRED",
        1_000_000,
        700_000,
        41_999_300_000,
    )
    assert isinstance(fill, SpotExecutionReported)
    assert (fill.trade_id, fill.last_qty, fill.last_px, fill.quote_qty, fill.commission, fill.commission_asset) == (
        56,
        700_000,
        59_999 * SCALE,
        41_999_300_000,
        700,
        "BTC",
    )
    assert fill.ts_event_ns == report.ts_event_ns == 1507725176595 * 10**6


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": -2010, "msg": "Account has insufficient balance for requested action."}),
        (400, {"code": -1013, "msg": "Filter failure: LOT_SIZE"}),
        (400, {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."}),
        (401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}),
        (429, {"code": -1003, "msg": "Too much request weight used."}),
        (429, {"code": -1015, "msg": "Too many new orders."}),
        (418, {"code": -1003, "msg": "Way too much request weight used."}),
        (403, None),
        (429, None),
    ],
)
def test_the_exchanges_own_no_is_a_refusal(status: int, error: object) -> None:
    (refused,) = spot_forms.outcome("s", TICKET, status, b"<html>" if error is None else body(error))
    assert isinstance(refused, SpotOrderRefused)
    assert refused.http_status == status
    assert refused.code == (error["code"] if isinstance(error, dict) else 0)


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (500, body({"code": -2010, "msg": "Account has insufficient balance for requested action."})),
        (502, b"<html>bad gateway</html>"),
        (503, body({"code": -1008, "msg": "Server is currently overloaded"})),
        (504, body({"code": -1007, "msg": "Timeout waiting for response from backend server."})),
        (400, body({"code": -1006, "msg": "An unexpected response was received from the message bus."})),
        (400, body({"code": -1000, "msg": "An unknown error occurred while processing the request."})),
        (400, body({"code": -1001, "msg": "Internal error; unable to process your request."})),
        (400, body({"code": -2010, "msg": "Duplicate order sent."})),
        (400, b""),
        (400, b"\xff\xfe"),
        (409, body({"code": -2021, "msg": "Order cancel-replace partially failed."})),
        (302, b""),
        (408, b""),
        (204, b""),
        (200, b""),
        (200, b"{}"),
        (200, body({**REPLY, "clientOrderId": "somebody-elses"})),
        (200, body({**REPLY, "executedQty": "much"})),
        (200, body({**REPLY, "executedQty": "-1"})),
        (200, body({**REPLY, "side": "HOLD"})),
        (200, body(REPLY)[:-20]),
    ],
)
def test_everything_that_does_not_say_no_for_certain_is_unknown(status: int, raw: bytes) -> None:
    (unknown,) = spot_forms.outcome("s", TICKET, status, raw)
    assert isinstance(unknown, SpotOutcomeUnknown)
    assert unknown.client_order_id == "mine-1"


def test_a_trade_on_the_stream_is_a_report_and_an_execution() -> None:
    news = spot_forms.stream_event("s", body(REPORT))
    assert isinstance(news, tuple)
    report, execution = news
    assert isinstance(report, SpotOrderReported)
    assert isinstance(execution, SpotExecutionReported)
    assert (report.client_order_id, report.status, report.cum_qty) == ("mine-1", "PARTIALLY_FILLED", 50_000_000)
    assert (execution.trade_id, execution.last_qty, execution.last_px, execution.quote_qty, execution.side) == (
        77,
        25_000_000,
        10_264_420,
        2_566_105,
        Side.SELL,
    )


def test_a_cancel_on_the_stream_and_in_a_reply_is_of_the_order_and_not_of_the_cancels_name() -> None:
    gone = {**REPORT, "x": "CANCELED", "X": "CANCELED", "c": "the-cancel", "C": "mine-1", "N": None, "n": "0", "t": -1}
    news = spot_forms.stream_event("s", body(gone))
    assert isinstance(news, tuple)
    (report,) = news
    assert isinstance(report, SpotOrderReported)
    assert (report.client_order_id, report.status) == ("mine-1", "CANCELED")
    reply = {**REPLY, "clientOrderId": "the-cancel", "origClientOrderId": "mine-1", "status": "CANCELED"}
    assert spot_forms.order_report("s", body(reply)).client_order_id == "mine-1"


def test_balances_the_streams_end_and_other_events_are_told_apart() -> None:
    position = {"e": "outboundAccountPosition", "E": 2, "u": 1, "B": [{"a": "ETH", "f": "10.5", "l": "0.25"}]}
    expected = SpotBalancesReported("s", {"ETH": SpotBalance(1_050_000_000, 25_000_000)}, 10**6)
    assert spot_forms.stream_event("s", body(position)) == (expected,)
    assert spot_forms.stream_event("s", b'{"e":"listenKeyExpired","E":1,"listenKey":"x"}') == ListenKeyExpired()
    assert spot_forms.stream_event("s", b'{"e":"balanceUpdate","E":1}') == OtherEvent("balanceUpdate")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}", body({**REPORT, "q": "x"}), body({"e": "executionReport"})])
def test_an_event_that_cannot_be_read_says_so(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        spot_forms.stream_event("s", raw)


def test_an_order_goes_out_immediate_or_cancel_with_exact_amounts() -> None:
    params = spot_forms.order_params(SpotTicket("n-1", "ETHBTC", Side.SELL, 1, 10_264_410))
    assert (params["timeInForce"], params["newOrderRespType"], params["side"]) == ("IOC", "FULL", "SELL")
    assert (params["quantity"], params["price"], params["newClientOrderId"]) == ("0.00000001", "0.10264410", "n-1")


def test_the_account_leaves_zeros_out_and_names_itself() -> None:
    told = {"uid": 42, "canTrade": True, "balances": [{"asset": "A", "free": "0", "locked": "0"}, {"asset": "B", "free": "1", "locked": "0.5"}]}  # fmt: skip # noqa: E501
    state = spot_forms.account(body(told))
    assert (state.account, state.can_trade, state.balances) == ("42", True, {"B": SpotBalance(SCALE, SCALE // 2)})
