"""Which symbols have rows, and whose they are."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.market_rows import Slot, SymbolNotListed, assign_rows
from kernels.book_image import NO_FEED
from kernels.exchange_info import Symbol


def symbol(number: int, trading: bool = True) -> Symbol:
    return Symbol(f"S{number}USDT", "TRADING" if trading else "BREAK", f"S{number}", "USDT")


def test_a_small_market_is_one_connection_of_one_shard() -> None:
    listed = [symbol(0), symbol(1, trading=False), symbol(2)]
    assert assign_rows(listed, None, 1, 200) == (
        tuple(listed), (Slot("spot.0.0", "feed.spot.0"),), (0, NO_FEED, 0), (), 0,
    )  # fmt: skip


@given(
    trading=st.lists(st.booleans(), min_size=1, max_size=300).filter(any),
    shards=st.integers(1, 5),
    most=st.integers(1, 60),
)
def test_every_trading_symbol_has_one_connection_and_none_carries_too_many(
    trading: list[bool], shards: int, most: int
) -> None:
    listed = [symbol(number, trades) for number, trades in enumerate(trading)]
    symbols, feeds, row_feed, ladders, _ = assign_rows(listed, None, shards, most)
    assert list(symbols) == listed
    assert ladders == ()
    assert [slot == NO_FEED for slot in row_feed] == [not trades for trades in trading]
    carried = Counter(slot for slot in row_feed if slot != NO_FEED)
    assert sorted(carried) == list(range(len(feeds)))
    assert max(carried.values()) <= most
    assert len({slot.name for slot in feeds}) == len(feeds)
    per_shard = Counter(feeds[slot].role for slot in row_feed if slot != NO_FEED)
    assert max(per_shard.values()) - min(per_shard.values()) <= 1
    assert len(per_shard) == min(shards, sum(trading))


def test_wanted_symbols_alone_have_rows_in_the_order_wanted() -> None:
    listed = [symbol(number) for number in range(5)]
    assert assign_rows(listed, ["S3USDT", "S1USDT", "S3USDT"], 1, 200).symbols == (listed[3], listed[1])


def test_a_wanted_symbol_that_is_not_listed_is_an_error_by_name() -> None:
    with pytest.raises(SymbolNotListed, match="NOPEUSDT"):
        assign_rows([symbol(0)], ["NOPEUSDT"], 1, 200)


def test_a_market_in_which_nothing_trades_is_an_error() -> None:
    with pytest.raises(ValueError, match="TRADING"):
        assign_rows([symbol(0, trading=False)], None, 1, 200)


def test_depth_has_slots_of_its_own_and_each_slot_a_twin_where_feeds_are_redundant() -> None:
    listed = [symbol(number) for number in range(5)]
    wanted = ["S4USDT", "S1USDT", "S3USDT"]
    assigned = assign_rows(listed, None, 2, 2, wanted, redundancy=2)
    names = ["spot.0.0", "spot.0.1", "depth.0.0", "spot.1.0", "depth.1.0"]
    assert [slot.name for slot in assigned.feeds] == [*names, *(f"{name}b" for name in names)]
    assert [slot.twin_of for slot in assigned.feeds] == [""] * 5 + names
    assert assigned.feeds[5].role == "feed.backup.0"
    assert assigned.feeds[9].role == "feed.backup.1"
    assert {assigned.symbols[row].name: assigned.feeds[slot].name for row, slot in assigned.ladders} == {
        "S4USDT": "depth.0.0", "S1USDT": "depth.1.0", "S3USDT": "depth.1.0",
    }  # fmt: skip
    with pytest.raises(SymbolNotListed, match=r"exchange\.depth_symbols names what is not followed: NOPE"):
        assign_rows(listed, ["S1USDT"], 1, 200, ["NOPE"])
