"""A true opportunity is true for orders too: three of them bring back what the ledger says, less commission."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.venues.exchange_client import SignedClient, canonical
from tests.venues.exchange_process import ExchangeProcess, wait_until

pytestmark = pytest.mark.process

PATIENCE_S = 60.0
FEE = Decimal("0.001")
LONG = ["--rate", "50", "--symbols", "24", "--opportunity-every-s", "10", "--opportunity-ms", "5000"]


def lots(client: SignedClient, symbol: str, amount: Decimal) -> Decimal:
    """An amount in whole lots."""
    (entry,) = client.exchange.get(f"/api/v3/exchangeInfo?symbol={symbol}")["symbols"]
    step = next(Decimal(one["stepSize"]) for one in entry["filters"] if one["filterType"] == "LOT_SIZE")
    return amount // step * step


def received(reply: dict[str, Any]) -> Decimal:
    """What an order brought in, commission taken off (it is charged in the asset received)."""
    gross = Decimal(reply["executedQty" if reply["side"] == "BUY" else "cummulativeQuoteQty"])
    return gross - sum((Decimal(fill["commission"]) for fill in reply["fills"]), Decimal(0))


def carry_out(client: SignedClient, cycle: list[str], start: Decimal) -> tuple[Decimal, Decimal, Decimal] | None:
    """Take the cycle's legs one after the other at the top; return spent, brought back, and the cycle's return there.

    None where it was over before the last leg: nothing is proven then.
    """
    spent, held, gross = Decimal(0), start, Decimal(1)
    for number, (symbol, _, side) in enumerate(leg.partition(":") for leg in cycle):
        top = client.top(symbol)
        price = top["askPrice"] if side == "BUY" else top["bidPrice"]
        gross *= 1 / price if side == "BUY" else price
        quantity = lots(client, symbol, held / price if side == "BUY" else held)
        reply = client.ioc(symbol, side, canonical(quantity), canonical(price))
        if reply["status"] != "FILLED":
            return None
        if number == 0:
            spent = Decimal(reply["cummulativeQuoteQty" if side == "BUY" else "executedQty"])
        held = received(reply)
    return spent, held, gross


def test_three_orders_bring_back_what_a_true_opportunity_says_less_commission(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path, *LONG, "--balance", "USDT=100000") as exchange:
        client = SignedClient(exchange)
        tried: list[int] = []

        def one_was_taken() -> bool:
            standing = exchange.get("/paper/opportunities")["standing"]
            if standing is None or standing["id"] in tried:
                return False
            tried.append(standing["id"])
            start = client.balances()["USDT"][0]
            done = carry_out(client, standing["cycle"], Decimal(900))
            still = exchange.get("/paper/opportunities")["standing"]
            if done is None or still is None or still["id"] != standing["id"]:
                return False  # a machine that stood still: the next one
            spent, back, gross = done
            assert abs(gross - Decimal(standing["gross_return"])) < Decimal("1e-10")
            assert client.balances()["USDT"][0] == start - spent + back
            # Lots leave at most a little of each leg behind, and commission takes its part of each.
            assert Decimal("0.995") * gross * (1 - FEE) ** 3 < back / spent <= gross * (1 - FEE) ** 3 + Decimal("1e-6")
            return True

        wait_until(one_was_taken, PATIENCE_S, lambda: f"none of {tried} could be carried out in time")
