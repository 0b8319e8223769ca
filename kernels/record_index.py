"""Where the frames of a recording lie in its bytes, and when each was received: compiled, for the usual forms.

Usual are the records of a capture file, and lines of `<ns> <frame>` or `<seconds>: <frame>` whose frame is one JSON
object. Any other line is left to `kernels.replay.parse_line`, which answers the same for the usual ones.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

Uint8s = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

FRAME: Final = 0
EPOCH: Final = 1
OTHER: Final = 2
SLOT: Final = 3
ASKED: Final = 4
SNAPSHOT: Final = 5
STATE: Final = 6
UNKNOWN: Final = 7
DEPTH: Final = 8
UNSPLICED: Final = 9
"""Kinds of entries. UNKNOWN: a record of a kind that is none. The last two are given to the frames of a connection of
depth by whoever knows whose file it is."""

RECORD_HEAD_BYTES: Final = 12
EPOCH_MARK: Final = 0xFFFF_FFFF
NO_FRAME: Final = 0x8000_0000
"""Of a record's length: it is no frame. Its kind, from SLOT on, is in the three bits below, its length in the rest."""

KIND_SHIFT: Final = 28
LENGTH_MASK: Final = (1 << KIND_SHIFT) - 1
_KIND_MASK: Final = 7

_NS_DIGITS_MIN: Final = 16
_NS_DIGITS_MAX: Final = 19
_SECONDS_DIGITS: Final = 10
_PLACES: Final = 9
_ZERO, _NINE, _POINT, _COLON, _BLANK, _OPEN, _CLOSE, _NEWLINE = (ord(char) for char in "09.: {}\n")


@njit(cache=True, nogil=True)
def index_capture(text: Uint8s, stop: int, times: Int64s, starts: Int64s, lengths: Int64s, kinds: Uint8s) -> int:
    """Find the whole records of `text[:stop]`, which begins with one; return how many there are (at most len(times)).

    The last one's end is `starts + lengths`: what follows is cut off, or did not fit. Times are as recorded.
    """
    at = count = 0
    while count < len(times) and at + RECORD_HEAD_BYTES <= stop:
        received_ns, length = np.int64(0), np.int64(0)
        for byte in range(8):
            received_ns |= np.int64(text[at + byte]) << (8 * byte)
        for byte in range(4):
            length |= np.int64(text[at + 8 + byte]) << (8 * byte)
        at += RECORD_HEAD_BYTES
        kind = np.int64(FRAME)
        if length == EPOCH_MARK:
            kind, length = np.int64(EPOCH), np.int64(0)
        elif length & NO_FRAME:
            kind = np.int64(SLOT) + ((length >> KIND_SHIFT) & _KIND_MASK)
            if kind > UNKNOWN:
                kind = np.int64(UNKNOWN)
            length &= np.int64(LENGTH_MASK)
        if at + length > stop:
            return count
        times[count], starts[count], lengths[count], kinds[count] = received_ns, at, length, kind
        at += lengths[count]
        count += 1
    return count


@njit(cache=True, nogil=True)
def index_lines(text: Uint8s, stop: int, times: Int64s, starts: Int64s, lengths: Int64s, kinds: Uint8s) -> int:
    """Find the lines of `text[:stop]` that end there; return how many there are (at most len(times)).

    A FRAME's start and length are of its frame, an OTHER's of the whole line without its newline, and its time is 0.
    The next line begins one byte behind the last one's end.
    """
    at = count = 0
    while count < len(times):
        end = at
        while end < stop and text[end] != _NEWLINE:
            end += 1
        if end == stop:
            return count
        received_ns, frame_at = _usual_head(text, at, end)
        is_frame = frame_at > 0 and text[end - 1] == _CLOSE
        times[count] = received_ns if is_frame else 0
        starts[count] = frame_at if is_frame else at
        lengths[count] = end - starts[count]
        kinds[count] = FRAME if is_frame else OTHER
        count += 1
        at = end + 1
    return count


@njit(cache=True, nogil=True)
def _usual_head(text: Uint8s, at: int, end: int) -> tuple[np.int64 | int, int]:
    """Return a line's time and where its frame begins; (0, 0) where its head is not one of the two usual ones."""
    begin = at
    value = np.int64(0)
    while at < end and _ZERO <= text[at] <= _NINE and at - begin < _NS_DIGITS_MAX:
        value = value * 10 + (text[at] - _ZERO)
        at += 1
    digits = at - begin
    # In nanoseconds, what begins with 4 or more may be 2^62 and above, which is no time.
    if digits == _SECONDS_DIGITS and at < end and text[at] == _POINT and text[begin] < _ZERO + 4:
        at += 1
        places = 0
        while at < end and _ZERO <= text[at] <= _NINE and places < _PLACES:
            value = value * 10 + (text[at] - _ZERO)
            at += 1
            places += 1
        if places == 0 or at >= end or text[at] != _COLON:
            return 0, 0
        at += 1
        for _ in range(_PLACES - places):
            value *= 10
    elif digits < _NS_DIGITS_MIN or (digits == _NS_DIGITS_MAX and text[begin] >= _ZERO + 4):
        return 0, 0
    if at + 1 < end and text[at] == _BLANK and text[at + 1] == _OPEN:
        return value, at + 1
    return 0, 0
