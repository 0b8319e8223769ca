"""A naive local book, kept as the exchange's documentation says a consumer should keep one. Shares nothing with it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

Sides = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]


class LocalBook:
    """A REST snapshot carried on by diffs. `last_id` is the update id that it stands at."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.last_id: int = snapshot["lastUpdateId"]
        self.sides = sides_of(snapshot)
        self.diffs = 0

    def apply(self, diff: dict[str, Any]) -> bool:
        """Apply a diff, or pass over one that is older; return False where one is missing between."""
        if diff["u"] <= self.last_id:
            return True
        if diff["U"] > self.last_id + 1:
            return False
        for side, changes in zip(self.sides, (diff["b"], diff["a"]), strict=True):
            for price, quantity in changes:
                if Decimal(quantity) == 0:
                    side.pop(Decimal(price), None)
                else:
                    side[Decimal(price)] = Decimal(quantity)
        self.last_id = diff["u"]
        self.diffs += 1
        return True

    def top(self) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """Return best bid, its quantity, best ask, its quantity."""
        bid, ask = max(self.sides[0]), min(self.sides[1])
        return bid, self.sides[0][bid], ask, self.sides[1][ask]


def sides_of(reply: dict[str, Any]) -> Sides:
    """Return a depth reply's sides by price."""
    bids, asks = ({Decimal(price): Decimal(quantity) for price, quantity in reply[side]} for side in ("bids", "asks"))
    return bids, asks
