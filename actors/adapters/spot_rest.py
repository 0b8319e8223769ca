"""The spot exchange's REST as the driver uses it: signed by the venue's clock, within its limits, never repeated.

Limits are token buckets of half the venue's figure, refilled by half in each of its intervals: so no interval of the
venue's, wherever it begins, holds more than its figure. What the venue counts as used lowers them. After 429 or 418
nothing is sent until the venue said.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import Final, Literal

import msgspec

from actors.adapters import spot_forms
from actors.adapters.retry_after import retry_after_s
from actors.adapters.spot_http import Connections, NotConnected, Reply, Unanswered, request_bytes
from actors.adapters.spot_key import ApiKey
from actors.ports import Clock
from kernels.token_bucket import TokenBucket, full, lowered, take

Security = Literal["none", "key", "signed"]
Method = Literal["GET", "POST", "PUT", "DELETE"]

SECOND_NS: Final = 10**9
CLOCK_SAMPLES: Final = 3
_WEIGHT_NS: Final = 60 * SECOND_NS
_ORDERS_NS: Final = 10 * SECOND_NS


class Away(RuntimeError):
    """No good answer, and what was asked may be asked again. `stay_away_s`: how long the venue said to wait."""

    def __init__(self, text: str, stay_away_s: float = 0.0) -> None:
        super().__init__(text)
        self.stay_away_s = stay_away_s


class VenueRefused(RuntimeError):
    """The venue answered, with an error's code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class NotAdmitted(RuntimeError):
    """Not now: no token in time, or the venue said to stay away. Not one byte left."""


class RestLimits(msgspec.Struct, frozen=True):
    """What the venue takes, and how long it is waited for."""

    weight_per_minute_max: int = 6_000
    orders_per_10s_max: int = 100
    request_s_max: float = 4.0
    recv_window_ms: int = 3_000


class SpotRest:
    """On one loop. `connections` are shared with the orders."""

    def __init__(self, connections: Connections, key: ApiKey, clock: Clock, limits: RestLimits) -> None:
        self.connections, self.limits = connections, limits
        self._key, self._clock = key, clock
        now_ns = clock.now_ns()
        half = max(1, limits.weight_per_minute_max // 2)
        self._weight: TokenBucket = full(half, half, _WEIGHT_NS, now_ns)
        half = max(1, limits.orders_per_10s_max // 2)
        self._orders: TokenBucket = full(half, half, _ORDERS_NS, now_ns)
        self._away_until_ns = 0
        self._offset_ms = 0
        self.is_clock_known = False

    # ---- the clock

    def venue_ms(self) -> int:
        """Return the venue's time, as far as it is known."""
        return self._clock.now_ns() // spot_forms.MS_NS + self._offset_ms

    async def sync_clock(self) -> int:
        """Learn the venue's clock from the quickest of a few answers; return the offset in ms. Raises as `call`."""
        best: tuple[int, int] | None = None
        for _ in range(CLOCK_SAMPLES):
            asked_ns = self._clock.now_ns()
            body = await self.call("GET", "/api/v3/time", {}, 1, "none")
            answered_ns = self._clock.now_ns()
            offset_ms = spot_forms.server_time_ms(body) - (asked_ns + answered_ns) // 2 // spot_forms.MS_NS
            sample = (answered_ns - asked_ns, offset_ms)
            best = sample if best is None else min(best, sample)
        assert best is not None, "no sample was asked for"
        self._offset_ms, self.is_clock_known = best[1], True
        return self._offset_ms

    # ---- questions

    async def call(self, method: Method, path: str, params: dict[str, str], weight: int, security: Security) -> bytes:
        """Return the body of HTTP 200. Raises Away, VenueRefused."""
        try:
            await self.admit(weight, 0, self._clock.now_ns() + round(self.limits.request_s_max * SECOND_NS))
            reply = await self.connections.exchange(
                lambda: self.request(method, path, params, security), self.limits.request_s_max
            )
        except (NotAdmitted, NotConnected, Unanswered) as error:
            raise Away(f"{method} {path}: {error}", self.stay_away_s()) from None
        self.note(reply)
        if reply.status == 200:
            return reply.body
        refusal = spot_forms.refusal_of(reply.body)
        text = f"{method} {path}: HTTP {reply.status} {refusal.code} {refusal.msg}"[:200]
        if refusal.code and 400 <= reply.status < 500 and reply.status not in (418, 429):
            raise VenueRefused(refusal.code, text)
        raise Away(text, self.stay_away_s())

    def request(self, method: Method, path: str, params: dict[str, str], security: Security) -> bytes:
        """Return a request's bytes, stamped and signed now."""
        headers = {} if security == "none" else {"X-MBX-APIKEY": self._key.api_key}
        if security == "signed":
            stamp = {"recvWindow": str(self.limits.recv_window_ms), "timestamp": str(self.venue_ms())}
            query = self._key.signed({**params, **stamp})
        else:
            query = urllib.parse.urlencode(params)
        return request_bytes(self.connections.address, method, f"{path}?{query}" if query else path, headers)

    # ---- limits

    async def admit(self, weight: int, orders: int, until_ns: int) -> None:
        """Wait for the tokens of a request, not beyond `until_ns`, and spend them. Raises NotAdmitted."""
        while True:
            now_ns = self._clock.now_ns()
            if now_ns < self._away_until_ns:
                raise NotAdmitted(f"the venue said to stay away for another {self.stay_away_s():.1f} s")
            weight_left, weight_ns = take(self._weight, weight, now_ns)
            orders_left, orders_ns = take(self._orders, orders, now_ns)
            wait_ns = max(weight_ns, orders_ns)
            if wait_ns == 0:
                self._weight, self._orders = weight_left, orders_left
                return
            if now_ns + wait_ns > until_ns:
                raise NotAdmitted(f"no token for {wait_ns / SECOND_NS:.2f} s: as much was sent as the venue takes")
            await asyncio.sleep(wait_ns / SECOND_NS)

    def note(self, reply: Reply) -> None:
        """Take what a reply says of limits."""
        now_ns = self._clock.now_ns()
        if (away_s := retry_after_s(reply.status, reply.headers.get("retry-after"))) > 0:
            self._away_until_ns = max(self._away_until_ns, now_ns + round(away_s * SECOND_NS))
        used = reply.headers.get("x-mbx-used-weight-1m", "")
        if used.isdigit():
            self._weight = lowered(self._weight, self.limits.weight_per_minute_max - int(used), now_ns)
        used = reply.headers.get("x-mbx-order-count-10s", "")
        if used.isdigit():
            self._orders = lowered(self._orders, self.limits.orders_per_10s_max - int(used), now_ns)

    def stay_away_s(self) -> float:
        """Return how long the venue still wants to be left alone."""
        return max(0, self._away_until_ns - self._clock.now_ns()) / SECOND_NS
