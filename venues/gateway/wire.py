"""Framing of the TWS socket protocol and the text of its numbers.

A frame is a 4-byte big-endian length and then that many bytes: fields of UTF-8 text, each ended by NUL. TCP may
split or join frames anywhere, so the reader keeps what is not yet whole. Nothing here does I/O.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

FRAME_BYTES_MAX = 1 << 20
"""No request of any client comes near; a longer length prefix means that the stream is not this protocol."""

UNSET_DOUBLE = "1.7976931348623157E308"
UNSET_INT = "2147483647"
_LENGTH = struct.Struct(">I")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_INT_MAX = 2**31 - 1
_SHOWN_MAX = 60
"""Characters of a client's field that an error repeats."""


class WireError(Exception):
    """The peer sent bytes that are not this protocol; the message says what and where."""


class FrameReader:
    """Cut a byte stream into frames; holds at most one unfinished frame (`FRAME_BYTES_MAX`)."""

    def __init__(self) -> None:
        self._pending = bytearray()

    @property
    def pending_bytes(self) -> int:
        return len(self._pending)

    def take_prefix(self, prefix: bytes) -> bool:
        """Remove unframed `prefix` from the front; False while too few bytes came to tell. Raises WireError."""
        head = bytes(self._pending[: len(prefix)])
        if not prefix.startswith(head):
            raise WireError(f"expected {prefix!r}, got {head!r}")
        if len(head) < len(prefix):
            return False
        del self._pending[: len(prefix)]
        return True

    def push(self, chunk: bytes) -> None:
        self._pending += chunk

    def next_frame(self) -> bytes | None:
        """Return the next whole frame without its length, or None. Raises WireError when its length is absurd."""
        if len(self._pending) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._pending)
        if length > FRAME_BYTES_MAX:
            raise WireError(f"frame of {length} bytes; at most {FRAME_BYTES_MAX} are taken")
        end = _LENGTH.size + length
        if len(self._pending) < end:
            return None
        frame = bytes(self._pending[_LENGTH.size : end])
        del self._pending[:end]
        return frame


def frame(payload: bytes) -> bytes:
    """Return the payload with its length before it."""
    return _LENGTH.pack(len(payload)) + payload


def join_fields(fields: Iterable[str]) -> bytes:
    """Return the frame of these fields. A NUL inside a field would shift all later ones, so it is replaced."""
    text = "".join(field.replace("\0", " ") + "\0" for field in fields)
    return frame(text.encode())


def split_fields(payload: bytes) -> list[str]:
    """Return the fields of a frame's payload; bytes that are not UTF-8 are shown escaped, never refused."""
    fields = payload.decode(errors="backslashreplace").split("\0")
    if fields[-1] == "":
        fields.pop()
    return fields


def text_of(number: Decimal | None, unset: str = UNSET_DOUBLE) -> str:
    """Plain digits without exponent or trailing zeros: ibapi 9.81 refuses `100.0` where it wants a whole size."""
    if number is None:
        return unset
    if number == number.to_integral_value():
        return str(int(number))
    return format(number.normalize(), "f")


def flag(value: bool) -> str:
    """IB's text of a truth."""
    return "1" if value else "0"


def to_int(text: str, name: str) -> int:
    """Raises WireError naming the field, also beyond 32 bits; an empty text is 0, as IB reads it."""
    if not text:
        return 0
    if _WHOLE.fullmatch(text) is None:
        raise WireError(f"{name}: {_shown(text)} is not a whole number")
    number = int(text)
    if not -_INT_MAX - 1 <= number <= _INT_MAX:
        raise WireError(f"{name}: {text} is not a whole number of 32 bits")
    return number


def to_decimal(text: str, name: str) -> Decimal | None:
    """None when empty or one of IB's unset values. Raises WireError naming the field, also for NaN and infinities."""
    if text in ("", UNSET_DOUBLE, UNSET_INT, "1.7976931348623157e+308"):
        return None
    try:
        number = Decimal(text if text.isascii() and "_" not in text else "")
    except InvalidOperation as error:
        raise WireError(f"{name}: {_shown(text)} is not a number") from error
    if not number.is_finite() or number.adjusted() > 15 or number.adjusted() < -15:
        if number.is_finite() and number == 0:
            return Decimal(0)
        raise WireError(f"{name}: {_shown(text)} is out of range")
    return number


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…")
