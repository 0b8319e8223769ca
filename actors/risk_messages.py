"""What is said to risk, the role that halts and closes positions."""

from __future__ import annotations

from actors.message import Message


class Flatten(Message, frozen=True):
    """To risk, from any role: latch the halt, cancel what would open risk, close every position of ours."""

    reason: str
