"""The chain of an order holds what caused it and what came of it, and nothing of its neighbours."""

from __future__ import annotations

import msgspec

from actors.chain import Entry, chain_of, chain_text
from actors.messages import AnyMessage, BracketClosed, Envelope, JournalRecord, SignalUnreadable
from actors.order_messages import IncidentRecorded


def entry(seq: int, body: AnyMessage) -> Entry:
    envelope = Envelope(
        message_id=f"allocator:e1.driver.{seq}",
        correlation_id=f"allocator:e1.driver.{seq}",
        causation_id="",
        source="driver",
        target="allocator",
        source_epoch=1,
        ts_init_ns=seq,
        body=body,
    )
    return Entry("allocator", msgspec.json.encode(JournalRecord(seq=seq, now_ns=seq, epoch=1, input=envelope)))


ONE = entry(1, BracketClosed("fund-one-1", "AAPL"))
TWO = entry(2, BracketClosed("fund-two-1", "AAPL"))


def seqs(wanted: str, *entries: Entry) -> list[int]:
    return [link.seq for link in chain_of(wanted, entries)]


def joined(first: str, second: str) -> Entry:
    """A record that holds two orders, as the answer to a read does."""
    family = first[:-1]
    text = f'{{"client_order_id":"{first}","intent_id":"{family}"}},{{"client_order_id":"{second}"}}'
    incident = IncidentRecorded("read", "venue", "x")
    return Entry("allocator", entry(4, incident).payload.replace(b'"x"', b'"x","orders":[' + text.encode() + b"]"))


def test_a_record_that_names_several_intents_belongs_to_the_chain_and_leads_nowhere() -> None:
    entries = (ONE, TWO, joined("fund-one-1e", "fund-two-1e"))
    assert seqs("fund-one-1", *entries) == [1, 4]


def test_a_record_that_names_the_legs_of_one_intent_leads_on() -> None:
    entries = (ONE, TWO, joined("fund-one-1e", "fund-one-1t"))
    assert seqs("fund-one-1t", *entries) == [1, 4]


def test_an_id_that_stands_nowhere_has_no_chain() -> None:
    assert seqs("fund-nine-1", ONE, TWO) == []


def test_an_id_is_not_a_longer_one_of_its_kind() -> None:
    assert seqs("fund-one-1", ONE, entry(2, BracketClosed("fund-one-10", "AAPL"))) == [1]


def test_the_text_has_a_line_a_record_with_the_time_since_the_first() -> None:
    text = chain_text(chain_of("fund-one-1", (ONE, entry(2_000_001, SignalUnreadable("0-1", "fund-one-1", "bad")))))
    assert [line.split()[0] for line in text.splitlines()] == ["0.000", "2.000"]
