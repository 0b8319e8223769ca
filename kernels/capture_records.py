"""What a capture file holds beside frames, as bytes: whose file it is, snapshots, and what was known as it began.

SLOT stands first in each file. ASKED and SNAPSHOT stand where they took effect among the frames of their connection:
the one lets a book keep its diffs, the other is spliced with them. STATE stands at the head of a file that begins
within an epoch: all that the fold knew of one symbol then, so that the file can be replayed without the one before.

A symbol that is absent from the listing of a replay is left out there, by whoever reads.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from kernels.image_values import RowStatus

Int64 = Annotated[int, msgspec.Meta(le=2**63 - 1)]


class SlotRecord(msgspec.Struct, frozen=True):
    """Whose frames a file holds. `levels`: of each ladder, a side; 0 for a connection of tickers."""

    symbols: tuple[str, ...]
    levels: int = 0

    @property
    def is_depth(self) -> bool:
        """Whether it is a connection of depth."""
        return self.levels > 0


class SnapshotRecord(msgspec.Struct, frozen=True):
    """A REST reply as it came, asked for with `limit` levels a side."""

    symbol: str
    limit: int
    body: bytes


class TickerState(msgspec.Struct, frozen=True, array_like=True):
    """One row as it stood, in counts, and the last update id that its fold has taken."""

    symbol: str
    bid_px: Int64
    bid_qty: Int64
    ask_px: Int64
    ask_qty: Int64
    venue_update_id: Int64
    latest_id: Int64
    status: RowStatus
    quantity_capped: bool


class DiffState(msgspec.Struct, frozen=True, array_like=True):
    """A diff that waits for a snapshot; levels as in `BookState`."""

    first_id: Int64
    final_id: Int64
    bids: bytes
    asks: bytes


class BookState(msgspec.Struct, frozen=True, array_like=True):
    """One `kernels.depth_book.DepthBook`, whole. Levels: little-endian int64 pairs (price, quantity), best first."""

    symbol: str
    is_valid: bool
    update_id: Int64
    is_filling: bool
    edges: tuple[Int64, Int64]
    bids: bytes
    asks: bytes
    kept: tuple[DiffState, ...]


encode: Final = msgspec.msgpack.Encoder().encode
"""Any of these, to bytes."""

_slot: Final = msgspec.msgpack.Decoder(SlotRecord).decode
_snapshot: Final = msgspec.msgpack.Decoder(SnapshotRecord).decode
_ticker: Final = msgspec.msgpack.Decoder(TickerState).decode
_book: Final = msgspec.msgpack.Decoder(BookState).decode


def decode_slot(payload: bytes) -> SlotRecord | None:
    """Return the record; None where the bytes are none."""
    try:
        return _slot(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def decode_snapshot(payload: bytes) -> SnapshotRecord | None:
    """Return the record; None where the bytes are none."""
    try:
        return _snapshot(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def decode_ticker_state(payload: bytes) -> TickerState | None:
    """Return the record; None where the bytes are none."""
    try:
        return _ticker(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def decode_book_state(payload: bytes) -> BookState | None:
    """Return the record; None where the bytes are none, or its levels no pairs."""
    try:
        state = _book(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    sides = [state.bids, state.asks, *(side for diff in state.kept for side in (diff.bids, diff.asks))]
    return None if any(len(side) % 16 for side in sides) else state
