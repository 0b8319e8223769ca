"""Ids of orders as pure functions of what they are for: the same signal can never get two.

A bracket's form: `ax` fund-tag `-` digest `-` attempt leg, e.g. `axk3v7qz-abcdefghijklmnopqrstuvwx-1e`; at most 38
characters of `[a-z0-9-]`. The digest is 120 bits of BLAKE2b over fund and signal id (length-prefixed, so that no two
pairs share their bytes): among 2^40 signals a collision has a chance below 2^-40. The tag (30 bits of the fund) only
tells our orders from others' at a shared account.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re

import msgspec

ATTEMPT_MAX = 999
LEGS = {"entry": "e", "take_profit": "t", "stop_loss": "s", "exit": "x"}
_LEG_OF = {letter: leg for leg, letter in LEGS.items()}
_CYCLE_KEY = re.compile(r"[1-4]|u[1-9][0-9]{0,2}")
_DIGEST = re.compile(r"[a-z2-7]{20}")
_FORM = re.compile(r"(ax[a-z2-7]{6})-[a-z2-7]{24}-([1-9][0-9]{0,2})([etsx])")


class ParsedId(msgspec.Struct, frozen=True):
    """What can be read back from a client order id."""

    fund_tag: str
    family: str
    leg: str
    attempt: int


@functools.lru_cache(maxsize=16)
def fund_tag(fund: str) -> str:
    """Return the 8 characters with which all ids of this fund begin."""
    return "ax" + _base32(hashlib.blake2b(fund.encode(), digest_size=5).digest())[:6]


def family_id(fund: str, signal_id: str, attempt: int = 1) -> str:
    """Return the id shared by a bracket's orders; it is the intent's id too. Raises ValueError (attempt)."""
    if not 1 <= attempt <= ATTEMPT_MAX:
        raise ValueError(f"attempt {attempt} is not in 1..{ATTEMPT_MAX}")
    fund_bytes = fund.encode()
    content = len(fund_bytes).to_bytes(4, "big") + fund_bytes + signal_id.encode()
    digest = _base32(hashlib.blake2b(content, digest_size=15).digest())
    return f"{fund_tag(fund)}-{digest}-{attempt}"


def client_order_id(fund: str, signal_id: str, leg: str, attempt: int = 1) -> str:
    """Return the order's id. Raises ValueError (attempt), KeyError (no such leg)."""
    return leg_id(family_id(fund, signal_id, attempt), leg)


def leg_id(family: str, leg: str) -> str:
    """Return the client order id of a leg of the family (`family_id`). Raises KeyError (no such leg)."""
    return family + LEGS[leg]


def parse(client_order_id: str) -> ParsedId | None:
    """Read an id back; None if it has not our form (somebody else's order, or none given)."""
    match = _FORM.fullmatch(client_order_id)
    if match is None:
        return None
    return ParsedId(match[1], client_order_id[:-1], _LEG_OF[match[3]], int(match[2]))


def cycle_order_id(fund: str, attempt_id: str, key: str) -> str:
    """Return the id of an order of a cycle's attempt: `key` is its leg (`1` to `4`) or its step back (`u1` to `u999`).

    At most 34 characters of what a spot exchange allows (36 of letters, digits, `-`, `_`): `ax` fund-tag `-`, 100 bits
    of digest, `-` key. Raises ValueError (key).
    """
    if not _CYCLE_KEY.fullmatch(key):
        raise ValueError(f"key {key!r} is not 1 to 4, nor u1 to u999")
    fund_bytes = fund.encode()
    content = b"cycle" + len(fund_bytes).to_bytes(4, "big") + fund_bytes + attempt_id.encode()
    digest = _base32(hashlib.blake2b(content, digest_size=15).digest())[:20]
    return f"{fund_tag(fund)}-{digest}-{key}"


def is_cycle_order_id(fund: str, client_order_id: str) -> bool:
    """Whether it is one of this fund's cycle orders, by its form."""
    tag, _, rest = client_order_id.partition("-")
    digest, _, key = rest.partition("-")
    return tag == fund_tag(fund) and bool(_DIGEST.fullmatch(digest) and _CYCLE_KEY.fullmatch(key))


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").rstrip("=").lower()
