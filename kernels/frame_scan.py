"""The usual good frame, compiled: a combined bookTicker frame as the venue writes it, byte for byte, into its figures.

The form is `{"stream":"<name>@bookTicker","data":{"u":<id>,"s":"<NAME>","b":"…","B":"…","a":"…","A":"…"}}` and nothing
else: no blank, no other key, no other order, name and stream of one symbol, an id of at most 18 digits, decimals that
`kernels.fixed8_bytes` takes (a price exactly), both sides above zero and the bid below the ask. What is not just that
is not judged here: it is the whole rule's, `kernels.frames.parse_frame`, which answers the same for what is.

Symbols are found by the bytes of their stream's name, in a table of open addressing. Names that JSON would write with
an escape are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from kernels.fixed8_bytes import CAPPED, MALFORMED, parse_fixed8

# A digest of the files whose functions are compiled into this: numba's cache does not look at them (see test_warm).
COMPILED_WITH: Final = "2a832fd486aeeff4"

UNUSUAL: Final = -1
_NOWHERE: Final = -1
TEXT_PADDING: Final = 64
"""Bytes that are no frame's which must follow the last frame in its buffer: fixed parts are compared before the end is
looked at."""

BID_PX, BID_QTY, ASK_PX, ASK_QTY, UPDATE_ID, QUANTITY_CAPPED, N_FIGURES = range(7)

_ID_DIGITS_MAX: Final = 18
_WHOLE_DIGITS_MAX: Final = 10
_PLACES: Final = 8
_LOAD_MAX: Final = 2
"""Slots a name: at most every second slot is taken."""
_QUOTE: Final = 34
_POINT: Final = 46
_ZERO: Final = 48
_AT: Final = 64

_FNV_OFFSET: Final = np.uint64(0xCBF29CE484222325)
_FNV_PRIME: Final = np.uint64(0x100000001B3)
_FOLD_BITS: Final = np.uint64(32)

Uint8s = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]


def _bytes(text: str) -> Uint8s:
    return np.frombuffer(text.encode(), dtype=np.uint8)


_HEAD: Final = _bytes('{"stream":"')
_TO_ID: Final = _bytes('@bookTicker","data":{"u":')
_TO_NAME: Final = _bytes(',"s":"')
_TO_BID: Final = _bytes('","b":"')
_TO_BID_QTY: Final = _bytes(',"B":"')
_TO_ASK: Final = _bytes(',"a":"')
_TO_ASK_QTY: Final = _bytes(',"A":"')
_TAIL: Final = _bytes("}}")


class ScanTable(NamedTuple):
    """Where each symbol's names lie and which slot leads to it.

    `slots` int32 [a power of two]: row + 1, 0 where empty. `lower`, `upper` uint8: the names in stream's form and as
    given, one after another in UTF-8; `lower_at`, `upper_at` int64 [rows + 1]: where each begins and the last ends.
    """

    slots: Int32s
    lower: Uint8s
    lower_at: Int64s
    upper: Uint8s
    upper_at: Int64s


def scan_table(names: Sequence[str]) -> ScanTable:
    """Return the table of these symbols; a row is a position. The names' lower cases must differ. Linear."""
    upper, upper_at = _blob(names)
    lower, lower_at = _blob([name.lower() for name in names])
    slots = np.zeros(1 << max(3, (_LOAD_MAX * max(1, len(names)) - 1).bit_length()), dtype=np.int32)
    plain = np.array([_is_plain(name) for name in names], dtype=np.bool_)
    _fill(slots, lower, lower_at, plain)
    return ScanTable(slots, lower, lower_at, upper, upper_at)


def _blob(names: Sequence[str]) -> tuple[Uint8s, Int64s]:
    encoded = [name.encode("utf-8", "replace") for name in names]
    at = np.zeros(len(names) + 1, dtype=np.int64)
    np.cumsum([len(name) for name in encoded], out=at[1:])
    return np.frombuffer(b"".join(encoded) + bytes(TEXT_PADDING), dtype=np.uint8).copy(), at


def _is_plain(name: str) -> bool:
    """Say whether JSON has one way to write it that needs no escape, and `@` is not in it."""
    return bool(name) and name.isprintable() and not set('"\\@') & set(name)


@njit(cache=True, nogil=True)
def _fill(slots: Int32s, lower: Uint8s, lower_at: Int64s, plain: npt.NDArray[np.bool_]) -> None:
    mask = len(slots) - 1
    for row in range(len(lower_at) - 1):
        if not plain[row]:
            continue
        digest = _FNV_OFFSET
        for at in range(lower_at[row], lower_at[row + 1]):
            digest = (digest ^ np.uint64(lower[at])) * _FNV_PRIME
        slot = np.int64(digest ^ (digest >> _FOLD_BITS)) & mask
        while slots[slot] != 0:
            slot = (slot + 1) & mask
        slots[slot] = row + 1


@njit(cache=True, nogil=True)
def scan_frame(
    text: Uint8s,
    start: int,
    stop: int,
    slots: Int32s,
    lower: Uint8s,
    lower_at: Int64s,
    upper: Uint8s,
    upper_at: Int64s,
    figures: Int64s,
) -> int:
    """Read `text[start:stop]` and return its row, with `figures` (int64 [N_FIGURES]) set; UNUSUAL, with `figures` of no
    meaning, for all that is not the usual good frame.

    At least TEXT_PADDING bytes of the array must follow `stop`. About 100 ns.
    """
    at = _past(text, start, _HEAD)
    if at == _NOWHERE:
        return UNUSUAL
    begin = at
    digest = _FNV_OFFSET
    while at < stop and text[at] != _AT:
        digest = (digest ^ np.uint64(text[at])) * _FNV_PRIME
        at += 1
    mask = len(slots) - 1
    slot = np.int64(digest ^ (digest >> _FOLD_BITS)) & mask
    row = slots[slot] - 1
    while row >= 0 and not _is_name(text, begin, at, lower, lower_at[row], lower_at[row + 1]):
        slot = (slot + 1) & mask
        row = slots[slot] - 1
    if row < 0:
        return UNUSUAL
    at = _past(text, at, _TO_ID)
    if at == _NOWHERE or text[at] == _ZERO:
        return UNUSUAL
    begin = at
    update_id = np.int64(0)
    while at < stop and _ZERO <= text[at] <= _ZERO + 9:
        update_id = update_id * 10 + (text[at] - _ZERO)
        at += 1
    if not 0 < at - begin <= _ID_DIGITS_MAX:
        return UNUSUAL
    at = _past(text, at, _TO_NAME)
    length = upper_at[row + 1] - upper_at[row]
    if at == _NOWHERE or not _is_name(text, at, min(at + length, stop), upper, upper_at[row], upper_at[row + 1]):
        return UNUSUAL
    figures[UPDATE_ID] = update_id
    if not _figures(text, at + length, stop, figures):
        return UNUSUAL
    return row


@njit(cache=True, nogil=True)
def _figures(text: Uint8s, at: int, stop: int, figures: Int64s) -> bool:
    """Read from behind the name to the end; False where it is no good top of book."""
    at = _past(text, at, _TO_BID)
    bid_px, at, bid_px_status = _decimal(text, at, stop)
    at = _past(text, at, _TO_BID_QTY)
    bid_qty, at, bid_qty_status = _decimal(text, at, stop)
    at = _past(text, at, _TO_ASK)
    ask_px, at, ask_px_status = _decimal(text, at, stop)
    at = _past(text, at, _TO_ASK_QTY)
    ask_qty, at, ask_qty_status = _decimal(text, at, stop)
    at = _past(text, at, _TAIL)
    # Whatever failed left the place at _NOWHERE, and from there on nothing matches.
    if at != stop or bid_px_status | ask_px_status or (bid_qty_status | ask_qty_status) & MALFORMED:
        return False
    if not (0 < bid_px < ask_px and bid_qty > 0 and ask_qty > 0):
        return False
    figures[BID_PX], figures[BID_QTY] = bid_px, bid_qty
    figures[ASK_PX], figures[ASK_QTY] = ask_px, ask_qty
    figures[QUANTITY_CAPPED] = (bid_qty_status | ask_qty_status) & CAPPED
    return True


@njit(cache=True, nogil=True, inline="always")
def _past(text: Uint8s, at: int, expected: Uint8s) -> int:
    """Return the place behind `expected`; _NOWHERE where something else stands at `at`, and for _NOWHERE."""
    if at == _NOWHERE:
        return _NOWHERE
    for step in range(len(expected)):
        if text[at + step] != expected[step]:
            return _NOWHERE
    return at + len(expected)


@njit(cache=True, nogil=True)
def _is_name(text: Uint8s, begin: int, end: int, names: Uint8s, first: int, last: int) -> bool:
    length = last - first
    if end - begin != length:
        return False
    same = 0
    while same < length and text[begin + same] == names[first + same]:
        same += 1
    return same == length


@njit(cache=True, nogil=True)
def _decimal(text: Uint8s, at: int, stop: int) -> tuple[np.int64 | int, int, int]:
    """Read a decimal up to its closing quote: count, place behind the quote or _NOWHERE, status of `parse_fixed8`."""
    if at == _NOWHERE:
        return 0, _NOWHERE, MALFORMED
    begin = at
    count = np.int64(0)
    while at < stop and _ZERO <= text[at] <= _ZERO + 9:
        count = count * 10 + (text[at] - _ZERO)
        at += 1
    if 0 < at - begin <= _WHOLE_DIGITS_MAX and at + _PLACES + 1 < stop and text[at] == _POINT:
        good = text[at + _PLACES + 1] == _QUOTE
        for step in range(1, _PLACES + 1):
            digit = np.int64(text[at + step]) - _ZERO
            good &= 0 <= digit <= 9
            count = count * 10 + digit
        if good:
            return count, at + _PLACES + 2, 0
    at = begin
    while at < stop and text[at] != _QUOTE:
        at += 1
    if at >= stop:
        return 0, _NOWHERE, MALFORMED
    count, status = parse_fixed8(text, begin, at)
    return count, at + 1, status
