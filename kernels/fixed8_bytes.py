"""Fixed8 out of bytes, compiled: the grammar of `kernels.fixed8`, without an object made.

Apart from `kernels.fixed8` so that who only needs the scalar functions does not load numba.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from kernels.fixed8 import COUNT_MAX, PLACES, TEXT_LENGTH_MAX

CAPPED: Final = 1
INEXACT: Final = 2
MALFORMED: Final = 4

_COUNT_MAX = np.uint64(COUNT_MAX)
_TEN = np.uint64(10)


@njit(cache=True, nogil=True)
def parse_fixed8(text: npt.NDArray[np.uint8], start: int, stop: int) -> tuple[np.int64 | int, int]:
    """Read `text[start:stop]` (uint8, ASCII) and return (count int64, status bits).

    Status is 0 or a sum of CAPPED (count is COUNT_MAX: the text stood for more), INEXACT (digits below 1e-8 that are
    not zero were truncated) and MALFORMED (then it is the only bit, and count is 0). A price is good with status 0;
    a quantity with anything but MALFORMED. Linear in the length; reads nothing outside the range, which must lie in
    the array.
    """
    length = stop - start
    if length < 1 or length > TEXT_LENGTH_MAX:
        return 0, MALFORMED
    count = np.uint64(0)
    status = 0
    places = -1
    whole_digits = 0
    for at in range(start, stop):
        byte = text[at]
        if byte == 46 and places < 0 and whole_digits > 0:
            places = 0
            continue
        if byte < 48 or byte > 57:
            return 0, MALFORMED
        digit = np.uint64(byte - 48)
        if places < 0:
            whole_digits += 1
        else:
            places += 1
        if places > PLACES:
            if digit != 0:
                status |= INEXACT
        else:
            count, status = _appended(count, digit, status)
    if places == 0 or whole_digits == 0:
        return 0, MALFORMED
    for _ in range(PLACES - max(min(places, PLACES), 0)):
        count, status = _appended(count, np.uint64(0), status)
    return np.int64(count), status


@njit(cache=True, nogil=True, inline="always")
def _appended(count: np.uint64, digit: np.uint64, status: int) -> tuple[np.uint64, int]:
    """Return the count with one more digit, or COUNT_MAX and CAPPED once it does not fit: capped it stays."""
    if count > (_COUNT_MAX - digit) // _TEN:
        return _COUNT_MAX, status | CAPPED
    return count * _TEN + digit, status
