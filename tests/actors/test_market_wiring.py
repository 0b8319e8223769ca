"""From the settings to what the evaluator is given: fees, start assets, greatest amounts."""

from __future__ import annotations

import pytest

from actors.adapters.market_wiring import fees_of, start_max_of, starts_of
from config.schema import load
from kernels.fees import FeeTable
from kernels.fixed8 import SCALE


def test_fees_are_read_exactly_with_their_patterns_in_order_and_the_tokens_discount() -> None:
    plain = load(None, ["exchange.fee_bps=7.5"]).exchange
    assert fees_of(plain) == FeeTable(75_000)
    rich = load(
        None,
        [
            'exchange.fees={BTCUSDT=1.5, "*FDUSD"=0}',
            "exchange.fee_token=BNB",
            "exchange.fee_discount_percent=25",
        ],
    ).exchange
    assert fees_of(rich) == FeeTable(100_000, (("BTCUSDT", 15_000), ("*FDUSD", 0)), "BNB", SCALE // 4)


@pytest.mark.parametrize(
    ("overrides", "starts", "limits"),
    [
        ((), ("USDT",), 1_000 * SCALE),
        (("exchange.start_asset=*",), None, 1_000 * SCALE),
        (('exchange.start_asset=["BTC", "USDT"]',), ("BTC", "USDT"), 1_000 * SCALE),
        (("exchange.start_amount_max={USDT=500, BTC=0.01}",), ("USDT",), {"USDT": 500 * SCALE, "BTC": 10**6}),
        (
            ("exchange.start_asset=*", "exchange.start_amount_max={USDT=500, BTC=0.01}"),
            ("USDT", "BTC"),
            {"USDT": 500 * SCALE, "BTC": 10**6},
        ),
    ],
)
def test_cycles_begin_where_an_amount_is_given(
    overrides: tuple[str, ...], starts: tuple[str, ...] | None, limits: int | dict[str, int]
) -> None:
    exchange = load(None, overrides).exchange
    assert starts_of(exchange) == starts
    assert start_max_of(exchange) == limits
