"""A token bucket in exact integers: how much may be sent now, and how long to wait for the rest.

A bucket holds at most `capacity` tokens and gains `refill` of them every `period_ns`, evenly. Its level is counted in
units of 1/period_ns token, so that a nanosecond adds exactly `refill` units and nothing is ever rounded away.
"""

from __future__ import annotations

import msgspec


class TokenBucket(msgspec.Struct, frozen=True, gc=False):
    """`units` as of `at_ns`; a token is `period_ns` units. Made by `full`."""

    capacity: int
    refill: int
    period_ns: int
    units: int
    at_ns: int


def full(capacity: int, refill: int, period_ns: int, now_ns: int) -> TokenBucket:
    """Return a full bucket. Raises ValueError unless capacity, refill and period are positive."""
    for name, value in (("capacity", capacity), ("refill", refill), ("period_ns", period_ns)):
        if value <= 0:
            raise ValueError(f"{name} is {value}; allowed: above 0")
    return TokenBucket(capacity, refill, period_ns, capacity * period_ns, now_ns)


def refilled(bucket: TokenBucket, now_ns: int) -> TokenBucket:
    """Return the bucket as of now. A clock that went back adds nothing and takes nothing away."""
    if now_ns <= bucket.at_ns:
        return bucket
    units = min(bucket.capacity * bucket.period_ns, bucket.units + (now_ns - bucket.at_ns) * bucket.refill)
    return TokenBucket(bucket.capacity, bucket.refill, bucket.period_ns, units, now_ns)


def take(bucket: TokenBucket, tokens: int, now_ns: int) -> tuple[TokenBucket, int]:
    """Return (bucket without the tokens, 0), or (bucket as of now, nanoseconds until they will all be there).

    All or nothing. Raises ValueError where that is never: more than `capacity`, or fewer than none.
    """
    if not 0 <= tokens <= bucket.capacity:
        raise ValueError(f"tokens is {tokens}; allowed: 0 to the bucket's capacity, {bucket.capacity}")
    now = refilled(bucket, now_ns)
    missing = tokens * now.period_ns - now.units
    if missing > 0:
        # As of `at_ns`, which may lie ahead of a clock that went back.
        return now, -(-missing // now.refill) + now.at_ns - now_ns
    return msgspec.structs.replace(now, units=-missing), 0


def lowered(bucket: TokenBucket, tokens_left: int, now_ns: int) -> TokenBucket:
    """Return the bucket with at most so many tokens: the other side counts more as used than we do. Never raises it."""
    now = refilled(bucket, now_ns)
    return msgspec.structs.replace(now, units=min(now.units, max(0, tokens_left) * now.period_ns))
