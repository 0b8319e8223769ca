"""What a process may ask of the venue: limits kept, refusals obeyed by everything, longer each time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actors.adapters.venue_budget import VenueBudget, VenueLimits
from actors.adapters.venue_rest import VenueAway, VenueRest, depth_weight
from tests.venues.exchange_process import ExchangeProcess


def test_a_refusal_keeps_connects_and_requests_away_and_each_in_a_row_for_twice_as_long() -> None:
    async def refuse() -> None:
        budget = VenueBudget(VenueLimits(), lambda: 0.0)
        assert [budget.refused(429, "0") for _ in range(4)] == [1.0, 2.0, 4.0, 8.0]
        assert budget.refused(418, "77") == 77.0
        assert budget.away_s == pytest.approx(77.0, abs=1.0)
        assert budget.refused(503, "9") == 0.0
        budget.answered()
        assert budget.refused(429, "1") == 1.0

    asyncio.run(refuse())


def test_whoever_asks_while_told_to_stay_away_waits_until_it_is_over() -> None:
    async def wait() -> list[float]:
        budget = VenueBudget(VenueLimits(), lambda: 0.0)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        budget.refused(429, "1")
        await asyncio.gather(budget.connect(), budget.request(5))
        assert loop.time() - began_s >= 0.99
        return [budget.counts["connects"], budget.counts["weight"], budget.counts["stayed_away"]]

    assert asyncio.run(wait()) == [1, 5, 1]


def test_connects_and_weight_are_spent_evenly_and_what_the_venue_counts_more_is_believed() -> None:
    async def spend() -> None:
        loop = asyncio.get_running_loop()
        budget = VenueBudget(VenueLimits(connects_per_5_min_max=6_000, weight_per_min_max=12_000), lambda: 0.0)
        began_s = loop.time()
        for _ in range(3_020):
            await budget.connect()
        # Half at once, the others at 10 a second.
        assert loop.time() - began_s >= 1.9
        budget.answered("11990")
        began_s = loop.time()
        await budget.request(60)
        assert loop.time() - began_s >= 0.4
        assert budget.counts["throttled"] > 0

    asyncio.run(spend())


def test_the_venues_own_refusal_is_obeyed_by_the_next_request(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path / "x", "--symbols", "6", "--rate", "10") as exchange:
        exchange.fault("http_status", status=429, n=2, retry_after_s=1)

        async def ask() -> None:
            loop = asyncio.get_running_loop()
            budget = VenueBudget(VenueLimits(), lambda: 0.0)
            async with VenueRest(exchange.base_url, budget) as rest:
                for least_s in (1.0, 2.0):
                    began_s = loop.time()
                    with pytest.raises(VenueAway, match="HTTP 429") as refused:
                        await rest.get("/api/v3/ping")
                    assert refused.value.stay_away_s == least_s
                    await budget.connect()
                    assert loop.time() - began_s >= least_s
                assert await rest.get("/api/v3/ping") == b"{}"
                assert budget.away_s == 0.0

        asyncio.run(ask())
    assert [depth_weight(limit) for limit in (1, 100, 101, 1_000, 5_000)] == [5, 5, 25, 50, 250]
