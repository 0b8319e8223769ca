"""Keys: one form, made in one place."""

from __future__ import annotations

import pytest

from actors.keys import ALL, KeyType, key


def test_a_key_names_fund_type_and_symbol() -> None:
    assert key(KeyType.JOURNAL, "broker.paper") == "apex:fund:journal:broker.paper"
    assert key("health", ALL) == "apex:fund:health:all"


@pytest.mark.parametrize("symbol", ["AAPL", "BRK B", "币安人生USDT", "feed.spot.0", "x" * 128])
def test_instruments_and_roles_of_every_kind_have_keys(symbol: str) -> None:
    assert key(KeyType.ORDERS, symbol).endswith(f":{symbol}")


@pytest.mark.parametrize(
    "symbol", ["", " A", "A ", "a:b", "*", "a?", "[a]", "{a}", "a\nb", "a\x00", "\\", "x" * 129, "币" * 43]
)
def test_a_symbol_that_would_split_a_key_or_match_others_is_refused(symbol: str) -> None:
    with pytest.raises(ValueError, match="key symbol"):
        key(KeyType.ORDERS, symbol)


def test_a_type_nobody_declared_is_refused() -> None:
    with pytest.raises(ValueError, match="jornal"):
        key("jornal", ALL)
