"""Credit that keeps one silent peer from stalling an actor's sends to everybody.

The actor system queues a message for a hung process and, at about twenty, blocks the sender's messages to all. So a
host sends at most `CREDIT_MAX` envelopes to a peer beyond those that the peer's host has said it handled; what does
not fit is refused here (owed messages come again, others are counted as lost). Pure bookkeeping.
"""

from __future__ import annotations

CREDIT_MAX = 12
SEEN_EVERY = 4
"""A receiver reports after each so many envelopes; below CREDIT_MAX, so that a full sender is always answered."""


class SendCredit:
    """What one host may still send to each peer."""

    def __init__(self) -> None:
        self._sent: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._last_change_ns: dict[str, int] = {}

    def take(self, role: str, now_ns: int, forgive_after_ns: int = 20_000_000_000) -> bool:
        """Use one credit; False if `role` has none. After a long silence the count starts again: a lost report."""
        sent, seen = self._sent.get(role, 0), self._seen.get(role, 0)
        if sent - seen >= CREDIT_MAX:
            if now_ns - self._last_change_ns.get(role, now_ns) < forgive_after_ns:
                return False
            self._seen[role] = sent
        self._sent[role] = sent + 1
        self._last_change_ns[role] = now_ns
        return True

    def seen(self, role: str, received: int) -> None:
        """The peer has handled `received` envelopes of ours in all; an older report changes nothing."""
        self._seen[role] = max(self._seen.get(role, 0), min(received, self._sent.get(role, 0)))

    def reset(self, role: str) -> None:
        """A new incarnation of `role`: whatever was in flight to the old one is gone."""
        self._sent.pop(role, None)
        self._seen.pop(role, None)


class ReceiveCount:
    """What one host has handled of each peer incarnation."""

    def __init__(self) -> None:
        self._received: dict[tuple[str, int], int] = {}

    def handled(self, role: str, epoch: int) -> int | None:
        """Count one; return the total when it is time to report it."""
        key = (role, epoch)
        if key not in self._received:
            self._received = {k: v for k, v in self._received.items() if k[0] != role}
        total = self._received.get(key, 0) + 1
        self._received[key] = total
        return total if total % SEEN_EVERY == 0 else None
