"""A host's sends: within credit, to the newest incarnation, and through a fault plan where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec

from actors.adapters.fault_plan import Delayed, FaultPlan
from actors.messages import Acknowledged, Envelope, TimerFired
from config.schema import FaultRule
from supervisors.host import ActorHost
from supervisors.host_transport import BATCH_MAX, HostTransport
from supervisors.lifecycle import Peer, Peers, Post
from supervisors.transport_credit import CREDIT_MAX


class FakeHost:
    """Notes what a transport asks of its host."""

    def __init__(self) -> None:
        self.sent: list[tuple[object, Envelope]] = []
        self.epoch = 1
        self.posts: list[Post] = []
        self.waiting: list[tuple[float, object]] = []

    def send(self, address: object, post: Post) -> None:
        self.posts.append(post)
        self.sent += [(address, one) for one in post.envelopes]

    def after(self, delay_s: float, payload: object) -> None:
        self.waiting.append((delay_s, payload))

    @property
    def names(self) -> list[str]:
        return [envelope.message_id for _, envelope in self.sent]


def transport(host: FakeHost, faults: FaultPlan | None = None) -> HostTransport:
    made = HostTransport(cast("ActorHost", host), "allocator", faults)
    made.learn(Peers(1, (Peer("broker.paper", "address", 7),)))
    return made


def envelope(name: str, target: str = "broker.paper") -> Envelope:
    return Envelope(name, "", "", "allocator", target, 1, 0, TimerFired(name))


def planned(tmp_path: Path, *rules: FaultRule) -> FaultPlan:
    return FaultPlan("allocator", rules, 1, tmp_path)


def test_an_envelope_is_stamped_with_the_incarnation_that_holds_the_role() -> None:
    host = FakeHost()
    assert transport(host).send(envelope("a"))
    assert [(address, one.target_epoch) for address, one in host.sent] == [("address", 7)]


def test_a_role_that_nobody_holds_and_one_without_credit_are_told_to_the_sender() -> None:
    host = FakeHost()
    made = transport(host)
    assert not made.send(envelope("a", target="nobody"))
    for _ in range(CREDIT_MAX):
        assert made.send(envelope("b"))
        made.flush()
    assert not made.send(envelope("b"))
    assert made.refused == {"broker.paper": 1}


def test_what_a_recovery_asks_before_it_knows_anybody_goes_out_with_the_first_table() -> None:
    host = FakeHost()
    made = HostTransport(cast("ActorHost", host), "reconciler")
    assert made.send(envelope("read"))
    assert made.send(envelope("for nobody", target="nobody"))
    assert not made.send(msgspec.structs.replace(envelope("owed"), delivery_seq=1)), (
        "owed ones come again by themselves"
    )
    made.learn(Peers(1, (Peer("broker.paper", "address", 7),)))
    assert [(one.message_id, one.target_epoch) for _, one in host.sent] == [("read", 7)]
    assert made.refused == {"nobody": 1}
    assert not made.send(envelope("later", target="nobody"))


def test_a_dropped_envelope_counts_as_sent_and_goes_nowhere(tmp_path: Path) -> None:
    host = FakeHost()
    made = transport(host, planned(tmp_path, FaultRule(point="send", action="drop")))
    assert made.send(envelope("a"))
    assert made.send(envelope("b"))
    made.flush()
    assert host.names == ["b"]


def test_a_duplicated_and_a_reordered_envelope_reach_the_network_so(tmp_path: Path) -> None:
    host = FakeHost()
    rules = (FaultRule(point="send", action="duplicate"), FaultRule(point="send", action="reorder", nth=2))
    made = transport(host, planned(tmp_path, *rules))
    for name in "abc":
        assert made.send(envelope(name))
        made.flush()
    assert host.names == ["a", "a", "c", "b"]


def test_a_delayed_envelope_goes_when_the_host_wakes_up_to_the_incarnation_of_then(tmp_path: Path) -> None:
    host = FakeHost()
    made = transport(host, planned(tmp_path, FaultRule(point="send", action="delay", arg_s=1.0)))
    assert made.send(envelope("a"))
    assert host.names == []
    ((delay_s, payload),) = host.waiting
    assert 0.5 <= delay_s <= 1.5
    assert isinstance(payload, Delayed)
    made.learn(Peers(2, (Peer("broker.paper", "successor", 8),)))
    assert made.due(payload)
    assert [(address, one.target_epoch) for address, one in host.sent] == [("successor", 8)]
    assert not made.due("host.health")


def test_the_first_of_a_turn_leaves_at_once_and_those_after_it_in_one_post_under_one_credit() -> None:
    host = FakeHost()
    made = transport(host)
    for turn in range(3):
        names = [f"{turn}.{k}" for k in range(5)]
        for name in names:
            assert made.send(envelope(name))
        assert host.names[-1] == names[0]
        made.flush()
        assert host.names[-5:] == names
    assert [len(post.envelopes) for post in host.posts] == [1, 4] * 3
    assert [post.number for post in host.posts] == [1, 2, 3, 4, 5, 6]
    made.flush()
    assert len(host.posts) == 6


def test_a_post_is_bounded_and_without_credit_nothing_waits_in_a_batch() -> None:
    host = FakeHost()
    made = transport(host)
    sent = [made.send(envelope(str(k))) for k in range(1 + CREDIT_MAX * BATCH_MAX)]
    assert sent.index(False) == 1 + (CREDIT_MAX - 1) * BATCH_MAX
    made.flush()
    assert host.names == [str(k) for k in range(sent.index(False))]
    assert [len(post.envelopes) for post in host.posts] == [1] + [BATCH_MAX] * (CREDIT_MAX - 1)


def test_what_waits_when_the_incarnation_changes_goes_to_the_one_it_was_numbered_for() -> None:
    host = FakeHost()
    made = transport(host)
    for name in "abc":
        assert made.send(envelope(name))
    made.learn(Peers(2, (Peer("broker.paper", "successor", 8),)))
    assert made.send(envelope("d"))
    assert [(address, one.message_id, one.target_epoch) for address, one in host.sent] == [
        ("address", "a", 7),
        ("address", "b", 7),
        ("address", "c", 7),
        ("successor", "d", 8),
    ]
    assert [post.number for post in host.posts] == [1, 2, 1]


def test_acknowledgements_of_a_turn_are_one_and_leave_with_whatever_else_does() -> None:
    host = FakeHost()
    made = transport(host)
    for number in (1, 2, 3):
        assert made.send(msgspec.structs.replace(envelope(f"ack {number}"), body=Acknowledged(number)))
    assert not host.posts
    assert made.send(envelope("news"))
    assert host.names == ["ack 3", "news"]
    assert made.send(msgspec.structs.replace(envelope("ack 4"), body=Acknowledged(4)))
    made.flush()
    assert host.names == ["ack 3", "news", "ack 4"]
    assert [len(post.envelopes) for post in host.posts] == [2, 1]
