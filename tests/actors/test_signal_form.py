"""The JSON form of a signal: what it takes, digit for digit, and how it says what is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.messages import Side, Signal
from actors.signal_form import BYTES_MAX, SignalFormError, format_signal, parse_signal, schema_text
from tests.conftest import ROOT

NOW_NS = 1_700_000_000_000_000_000


def form(**changes: object) -> bytes:
    fields: dict[str, object] = {"signal_id": "s-1", "strategy": "demo", "symbol": "AAPL", "side": "BUY", "ttl_s": 30}
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not ...}).encode()


def test_the_least_a_signal_needs() -> None:
    assert parse_signal(form(), NOW_NS) == Signal(
        signal_id="s-1",
        strategy="demo",
        symbol="AAPL",
        side=Side.BUY,
        take_profit_px=0,
        stop_px=0,
        reference_px=0,
        ts_event_ns=NOW_NS,
        expires_ns=NOW_NS + 30 * 10**9,
    )


def test_prices_are_strings_or_numbers_and_exact_either_way() -> None:
    text = form(take_profit="187.25", stop="0.00000001", limit="92233720368.54775807")
    signal = parse_signal(text, NOW_NS)
    assert (signal.take_profit_px, signal.stop_px, signal.limit_px) == (18_725_000_000, 1, 2**63 - 1)
    number = form().replace(b'"ttl_s"', b'"limit": 92233720368.54775807, "stop": 187, "ttl_s"')
    assert (parse_signal(number, NOW_NS).limit_px, parse_signal(number, NOW_NS).stop_px) == (2**63 - 1, 187 * 10**8)


def test_an_expiry_is_a_lifetime_or_a_time_of_day_or_nanoseconds() -> None:
    assert parse_signal(form(ttl_s=0.5, ts_event_ns=100), NOW_NS).expires_ns == 500_000_100
    at = parse_signal(form(ttl_s=..., expires="2023-11-14T22:13:20.000001Z"), 0)
    assert at.expires_ns == NOW_NS + 1_000
    assert parse_signal(form(ttl_s=..., expires="2023-11-15T00:13:20+02:00"), 0).expires_ns == NOW_NS
    assert parse_signal(form(ttl_s=..., expires_ns=77), NOW_NS).expires_ns == 77


@given(
    when=st.datetimes(
        min_value=datetime(1900, 1, 1),  # noqa: DTZ001  hypothesis wants the bounds naive
        timezones=st.integers(-1_439, 1_439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    )
)
def test_a_time_of_day_is_what_the_calendar_says(when: datetime) -> None:
    since = when - datetime(1970, 1, 1, tzinfo=UTC)
    ns = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
    assert parse_signal(form(ttl_s=..., expires=when.isoformat()), 0).expires_ns == ns


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"side": "buy"}, r"side: Invalid enum value 'buy'.*Remedy"),
        ({"symbol": ...}, r"symbol is missing.*Remedy"),
        ({"symbol": ""}, r"symbol: .*length >= 1"),
        ({"symbol": " AAPL"}, r"symbol is ' AAPL'.*Remedy"),
        ({"signal_id": "a b"}, r"signal_id: .*regex"),
        ({"signal_id": "ab\n"}, r"signal_id is 'ab\\n'"),
        ({"signal_id": "x" * 65}, r"signal_id: .*length <= 64"),
        ({"take_proffit": 3}, r"take_proffit is no field.*did you mean 'take_profit'.*Remedy"),
        ({"stop": "1,5"}, r'stop is "1,5": .*plain decimal.*Remedy'),
        ({"stop": -1}, r"stop is -1: .*Remedy"),
        ({"stop": 0}, r"stop is 0\. Remedy: a price above 0"),
        ({"stop": None}, r"stop is null"),
        ({"stop": [1]}, r"stop is \[1\]"),
        ({"limit": "0.123456789"}, r"limit .*more precise than 1e-8"),
        ({"limit": "92233720369"}, r"limit .*does not fit"),
        ({"limit": 1e30}, r"limit is 1e\+30"),
        ({"ttl_s": ...}, r"ttl_s and expires and expires_ns: none given.*exactly one"),
        ({"expires_ns": 5}, r"\['ttl_s', 'expires_ns'\] given"),
        ({"ttl_s": 0}, r"ttl_s: .*> 0"),
        ({"ttl_s": 1e9}, r"ttl_s: .*<= 604800"),
        ({"ttl_s": ..., "expires": "2023-11-14T22:13:20"}, r"expires is .*Remedy: a time with its zone"),
        ({"ttl_s": ..., "expires": "2023-02-29T00:00:00Z"}, r"expires is '2023-02-29"),
        ({"ttl_s": ..., "expires": "2023-01-01T24:00:00Z"}, r"expires is '2023-01-01T24"),
        ({"ttl_s": ..., "expires": "0000-01-01T00:00:00Z"}, r"expires is '0000"),
        ({"ttl_s": ..., "expires": "soon"}, r"expires is 'soon'"),
        ({"strategy": "x" * BYTES_MAX}, rf"has \d+ bytes. Remedy: at most {BYTES_MAX}"),
    ],
)
def test_an_error_names_the_field_the_value_and_the_remedy(changes: dict[str, object], error: str) -> None:
    with pytest.raises(SignalFormError, match=error):
        parse_signal(form(**changes), NOW_NS)


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"signal_id": "\xff"}', b"[" * 9_000])
def test_what_is_no_json_object_is_refused_as_such(payload: bytes) -> None:
    with pytest.raises(SignalFormError, match="Remedy"):
        parse_signal(payload, NOW_NS)


@given(payload=st.binary(max_size=200))
def test_any_bytes_are_refused_by_the_one_error(payload: bytes) -> None:
    # Random bytes are no signal; whatever is wrong with them, nothing but the named error comes out.
    with pytest.raises(SignalFormError, match="Remedy"):
        parse_signal(payload, NOW_NS)


identifiers = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")
prices = st.integers(0, 2**63 - 1)
times = st.integers(1, 2**63 - 1)


@given(
    signal=st.builds(
        Signal,
        signal_id=identifiers,
        strategy=identifiers,
        symbol=st.sampled_from(["AAPL", "BRK B", "币安人生USDT"]),
        side=st.sampled_from(Side),
        take_profit_px=prices,
        stop_px=prices,
        reference_px=prices,
        limit_px=prices,
        ts_event_ns=times,
        expires_ns=times,
        correlation_id=st.text(max_size=20),
    )
)
def test_a_written_signal_is_read_back_the_same(signal: Signal) -> None:
    assert parse_signal(format_signal(signal), NOW_NS) == signal


def test_the_schema_on_disk_is_the_one_the_program_reads_by() -> None:
    on_disk = Path(ROOT / "config" / "signal.schema.json").read_text(encoding="utf-8")
    assert on_disk == schema_text(), "write actors.signal_form.schema_text() to config/signal.schema.json"
