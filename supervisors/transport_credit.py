"""Credit that keeps one silent peer from stalling an actor's sends to everybody.

The actor system queues a message for a hung process and, at about twenty, blocks the sender's messages to all. So a
host sends at most `CREDIT_MAX` posts to a peer beyond the newest that the peer's host has said it handled; what does
not fit is refused here (owed messages come again, others are counted as lost). Pure bookkeeping. Posts are numbered,
so that one that was lost on the way costs no credit for ever: the next one handled speaks for it.
"""

from __future__ import annotations

CREDIT_MAX = 12
SEEN_EVERY = 4
"""A receiver reports after each so many posts; below CREDIT_MAX, so that a full sender is always answered."""
FORGIVE_AFTER_NS = 20_000_000_000
"""A peer silent for longer than it takes to find it hung (15 s) has lost a report, or posts."""


class SendCredit:
    """What one host may still send to each peer's present incarnation."""

    def __init__(self) -> None:
        self._sent: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._last_change_ns: dict[str, int] = {}

    def take(self, role: str, now_ns: int) -> int | None:
        """Use one credit and return the post's number; None if `role` has no credit left."""
        sent, seen = self._sent.get(role, 0), self._seen.get(role, 0)
        if sent - seen >= CREDIT_MAX:
            if now_ns - self._last_change_ns.get(role, now_ns) < FORGIVE_AFTER_NS:
                return None
            self._seen[role] = sent
        self._sent[role] = sent + 1
        self._last_change_ns[role] = now_ns
        return sent + 1

    def seen(self, role: str, number: int) -> None:
        """The peer has handled all up to `number`; an older report changes nothing."""
        self._seen[role] = max(self._seen.get(role, 0), min(number, self._sent.get(role, 0)))

    def reset(self, role: str) -> None:
        """A new incarnation of `role`: whatever was in flight to the old one is gone."""
        self._sent.pop(role, None)
        self._seen.pop(role, None)
        self._last_change_ns.pop(role, None)


class ReceiveCount:
    """What one host has reported to each peer: (the peer's epoch, the number)."""

    def __init__(self) -> None:
        self._reported: dict[str, tuple[int, int]] = {}

    def due(self, sender: str, sender_epoch: int, number: int) -> bool:
        """Whether this post, now handled, is to be reported. One of an older epoch of the sender's never is."""
        epoch, reported = self._reported.get(sender, (sender_epoch, 0))
        if sender_epoch < epoch:
            return False
        if sender_epoch > epoch:
            reported = 0
        is_due = number >= reported + SEEN_EVERY
        self._reported[sender] = (sender_epoch, number if is_due else reported)
        return is_due
