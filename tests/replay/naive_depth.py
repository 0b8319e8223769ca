"""The replay of a depth market written the plain way: JSON, dicts, Decimal, the reference for each cycle.

It knows the good forms and the faults that the script plants, and shares nothing with the fold, the book or the screen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from kernels.book_image import Row
from kernels.reference import Answer, Depth, Reference
from kernels.seqlock import VALID
from tests.replay.depth_script import DEEP, NAMES

Pairs = list[list[str]]
SIDES: Final = ("BUY", "SELL")


def count(text: str) -> int:
    return int(Decimal(text) * 10**8)


class NaiveBook:
    """One market's depth, spliced by the venue's own words."""

    def __init__(self) -> None:
        self.valid = False
        self.update_id = 0
        self.received_ns = 0
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.kept: list[dict[str, Any]] = []

    def void(self) -> None:
        self.__init__()  # type: ignore[misc]

    def diff(self, data: dict[str, Any], received_ns: int) -> bool:
        """Say whether the ladder was told anew."""
        if not self.valid:
            if not self.kept or data["U"] <= self.kept[-1]["u"] + 1:
                if not self.kept or data["u"] > self.kept[-1]["u"]:
                    self.kept.append(data)
            else:
                self.kept = [data]
            return False
        if data["u"] <= self.update_id:
            return False
        if data["U"] > self.update_id + 1:
            self.void()
            self.kept = [data]
            return True
        self._take(data)
        return self._checked(received_ns)

    def snapshot(self, reply: dict[str, Any], received_ns: int) -> bool:
        assert not self.valid, "small books are asked for only while they are void"
        if self.kept and reply["lastUpdateId"] + 1 < self.kept[0]["U"]:
            return True
        kept, self.kept = self.kept, []
        self.valid, self.update_id = True, reply["lastUpdateId"]
        self.bids = {count(px): count(qty) for px, qty in reply["bids"]}
        self.asks = {count(px): count(qty) for px, qty in reply["asks"]}
        for at, data in enumerate(kept):
            if data["u"] <= self.update_id:
                continue
            if data["U"] > self.update_id + 1:
                self.void()
                self.kept = kept[at:]
                return True
            self._take(data)
        return self._checked(received_ns)

    def _take(self, data: dict[str, Any]) -> None:
        for side, pairs in ((self.bids, data["b"]), (self.asks, data["a"])):
            for px, qty in pairs:
                side.pop(count(px), None)
                if count(qty):
                    side[count(px)] = count(qty)
        self.update_id = data["u"]

    def _checked(self, received_ns: int) -> bool:
        self.received_ns = received_ns
        if self.bids and self.asks and max(self.bids) >= min(self.asks):
            self.void()
        return True


class NaiveDepth:
    """Records of both connections in, opportunities by path out."""

    def __init__(self, reference: Reference, levels: int) -> None:
        self._reference, self._levels = reference, levels
        self.walks = [hops for hops in reference.walks() if hops]
        self._rows: list[Row | None] = [None] * len(NAMES)
        self._latest = [0] * len(NAMES)
        self.books = {name: NaiveBook() for name in DEEP}

    def ticker(self, frame: bytes, received_ns: int) -> dict[tuple[str, ...], Answer]:
        data = json.loads(frame)["data"]
        at = NAMES.index(data["s"])
        if data["u"] <= self._latest[at]:
            return {}
        self._latest[at] = data["u"]
        figures = (count(data[field]) for field in "bBaA")
        self._rows[at] = Row(0, *figures, data["u"], received_ns, VALID)
        return self._found([at])

    def depth(self, frame: bytes, received_ns: int) -> dict[tuple[str, ...], Answer]:
        try:
            value = json.loads(frame)
        except json.JSONDecodeError:
            name = frame.partition(b'"stream": "')[2].partition(b"@")[0].decode().upper()
            touched = [name] if name in self.books else list(self.books)
            for one in touched:
                self.books[one].void()
            return self._found([NAMES.index(one) for one in touched])
        if "data" not in value:
            return {}
        name = value["data"]["s"]
        return self._found([NAMES.index(name)] if self.books[name].diff(value["data"], received_ns) else [])

    def snapshot(self, name: str, body: bytes, received_ns: int) -> dict[tuple[str, ...], Answer]:
        try:
            reply = json.loads(body)
        except json.JSONDecodeError:
            return {}
        return self._found([NAMES.index(name)] if self.books[name].snapshot(reply, received_ns) else [])

    def epoch(self) -> dict[tuple[str, ...], Answer]:
        """The connection of depth began anew."""
        for book in self.books.values():
            book.void()
        return self._found([NAMES.index(name) for name in self.books])

    def ladder(self, name: str, side: str) -> Depth | None:
        book = self.books.get(name)
        if book is None or not (book.valid and book.bids and book.asks):
            return None
        levels = sorted((book.asks if side == "BUY" else book.bids).items(), reverse=side == "SELL")
        return Depth(tuple(levels[: self._levels]), book.update_id)

    def _found(self, rows: list[int]) -> dict[tuple[str, ...], Answer]:
        found = {}
        for hops in self._crossing(rows):
            answer = self._reference.answer(
                hops, [self._rows[row] for row, _ in hops], [self.ladder(NAMES[row], side) for row, side in hops]
            )
            if not answer.refusal:
                found[self._reference.path(hops)] = answer
        return found

    def _crossing(self, rows: list[int]) -> Iterator[Any]:
        return (hops for hops in self.walks if any(row in rows for row, _ in hops))
