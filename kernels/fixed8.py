"""Fixed8: prices and quantities as an integer count of 1e-8, in the range of an int64.

Accepted text is ASCII `digits` or `digits.digits`, as the spot exchanges write it; nothing else is a number here: no
sign, exponent, blank, underscore, bare point, NaN or infinity, no digit outside ASCII. At most `TEXT_LENGTH_MAX`
characters.

Digits below 1e-8 are truncated in a quantity (less than was offered is never more than was offered) and make a price
invalid unless they are all zero: a price cut off would be another price. A quantity above `COUNT_MAX` is capped
to it and says so; a price above it is an error.

`kernels.fixed8_bytes` reads the same grammar out of bytes in compiled code, with identical results.
"""

from __future__ import annotations

import enum
from fractions import Fraction
from typing import Final, NamedTuple

SCALE: Final = 10**8
PLACES: Final = 8
COUNT_MAX: Final = 2**63 - 1
TEXT_LENGTH_MAX: Final = 64


class Fault(enum.StrEnum):
    """Why a text is not a Fixed8."""

    MALFORMED = "is not a plain decimal number"
    TOO_PRECISE = "is more precise than 1e-8"
    TOO_LARGE = "does not fit 64 bits at 1e-8"


class Fixed8Error(ValueError):
    """A text that is no Fixed8; names the value (cut off at 80 characters) and the fault."""

    def __init__(self, text: object, fault: Fault) -> None:
        super().__init__(f"{str(text)[:80]!r} {fault.value}")
        self.fault = fault


class Quantity(NamedTuple):
    """A parsed quantity; `capped` where the text stood for more than `COUNT_MAX`."""

    value: int
    capped: bool


def parse_price(text: str | bytes) -> int:
    """Return the exact count of a price (0 is a price; whether it may stand is the caller's to say).

    Raises Fixed8Error: malformed, more precise than 1e-8 in digits that are not zero, or above COUNT_MAX.
    """
    count, exact = _scan(text)
    if not exact:
        raise Fixed8Error(text, Fault.TOO_PRECISE)
    if count > COUNT_MAX:
        raise Fixed8Error(text, Fault.TOO_LARGE)
    return count


def parse_quantity(text: str | bytes) -> Quantity:
    """Return a quantity, truncated to 1e-8 and capped at COUNT_MAX. Raises Fixed8Error where malformed."""
    count, _ = _scan(text)
    if count > COUNT_MAX:
        return Quantity(COUNT_MAX, True)
    return Quantity(count, False)


def parse_rate_bps(text: str | float) -> int:
    """Return basis points as a count of 1e-8 (7.5 bps → 75,000), exactly; a float by its shortest decimal.

    Raises Fixed8Error: malformed, negative, finer than 0.0001 bps, or 10,000 bps and more.
    """
    count = parse_price(str(text))
    if count % 10_000:
        raise Fixed8Error(text, Fault.TOO_PRECISE)
    if count >= 10_000 * SCALE:
        raise Fixed8Error(text, Fault.TOO_LARGE)
    return count // 10_000


def format_fixed8(count: int) -> str:
    """Return the decimal text with all eight places; exact, and any int may stand (a residual may be negative)."""
    sign = "-" if count < 0 else ""
    whole, part = divmod(abs(count), SCALE)
    return f"{sign}{whole}.{part:08d}"


def format_ratio(ratio: Fraction, places: int = 12) -> str:
    """Return a ratio as decimal text with `places` places; ties and all else to the nearest, half to even."""
    scaled = round(ratio * 10**places)
    sign = "-" if scaled < 0 else ""
    whole, part = divmod(abs(scaled), 10**places)
    return f"{sign}{whole}.{part:0{places}d}"


def _scan(text: str | bytes) -> tuple[int, bool]:
    """Return (count truncated to 1e-8, whether nothing was cut off); the count is not bounded yet."""
    if isinstance(text, str) and text[-9:-8] == "." and len(text) <= TEXT_LENGTH_MAX:
        # What a venue writes, with all eight places: taking the point out leaves the count.
        digits = text[:-9] + text[-8:]
        if len(digits) > PLACES and digits.isdigit() and digits.isascii():
            return int(digits), True
    plain = _ascii(text)
    whole, point, part = plain.partition(".")
    if not whole.isdigit() or (point and not part.isdigit()):
        raise Fixed8Error(text, Fault.MALFORMED)
    kept, cut = part[:PLACES], part[PLACES:]
    return int(whole) * SCALE + int(kept.ljust(PLACES, "0")), not cut.strip("0")


def _ascii(text: str | bytes) -> str:
    if len(text) > TEXT_LENGTH_MAX or not text.isascii():
        raise Fixed8Error(text, Fault.MALFORMED)
    return text.decode("ascii") if isinstance(text, bytes) else text
