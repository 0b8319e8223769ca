"""The user stream: listenKeys that live an hour, and what happens to the account told under each of them.

A listenKey is the name of a stream as any other: `/ws/<listenKey>`, or `/stream?streams=<listenKey>`. One that is
unknown or over is silent, as on the real exchange. Keys live in memory: a restart of the exchange ends them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from venues.exchange import order_forms
from venues.exchange.api_error import ApiError
from venues.exchange.connection import Connection
from venues.exchange.hub import Hub
from venues.exchange.order_faults import DuplicateReports, OrderFaultTable, ReorderReports, SilentReports
from venues.exchange.orders import Balance, Transferred
from venues.exchange.signing import random_text
from venues.exchange.trading import Step

NO_SUCH_KEY: Final = (-1125, "This listenKey does not exist.")


class UserStream:
    """On the event loop's thread only. `tell` is what the trading calls after each transaction."""

    def __init__(
        self,
        hub: Hub,
        faults: OrderFaultTable,
        life_s: float,
        monotonic_s: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._hub, self._faults, self._life_s = hub, faults, life_s
        self._monotonic_s, self._now_ms = monotonic_s, now_ms
        self._expires_s: dict[str, float] = {}
        self._executions = 0

    def open(self) -> str:
        """Return the account's listenKey, a new one where none is active, good for its whole life from now."""
        self.expire()
        key = next(iter(self._expires_s), None) or random_text(60)
        self._expires_s[key] = self._monotonic_s() + self._life_s
        return key

    def keep(self, key: str) -> None:
        """Prolong a key. Raises ApiError where it is not active."""
        self.expire()
        if key not in self._expires_s:
            raise ApiError(*NO_SUCH_KEY)
        self._expires_s[key] = self._monotonic_s() + self._life_s

    def close(self, key: str) -> None:
        """End a key; its connections hear nothing more. Raises ApiError where it is not active."""
        self.expire()
        if self._expires_s.pop(key, None) is None:
            raise ApiError(*NO_SUCH_KEY)

    def expire(self, everything: bool = False) -> int:
        """End the keys whose life is over (or all), and tell who listens; return how many."""
        now_s = self._monotonic_s()
        over = [key for key, expires_s in self._expires_s.items() if everything or expires_s <= now_s]
        for key in over:
            del self._expires_s[key]
            self._hub.publish(key, order_forms.listen_key_expired(key, self._now_ms()))
            self._hub.counters["listen_keys_expired"] += 1
        if over:
            self._hub.flush()
        return len(over)

    def connections(self) -> list[Connection]:
        """Who listens to the account."""
        keys = self._expires_s.keys()
        return [one for one in self._hub.connections.values() if keys & one.streams.keys()]

    def tell(
        self,
        steps: Sequence[Step],
        balances: Sequence[Balance],
        transfer: Transferred | None = None,
    ) -> None:
        """Tell a transaction to every listener at once, unless a fault has it otherwise."""
        self.expire()
        event_ms = self._now_ms()
        events: list[bytes] = []
        for step in steps:
            self._executions += 1
            events.append(order_forms.execution_report(step, event_ms, self._executions))
        if transfer is not None:
            events.append(order_forms.balance_update(transfer, event_ms))
        if balances:
            events.append(order_forms.account_position(balances, event_ms, event_ms))
        if self._faults.strike(SilentReports):
            return
        if self._faults.strike(ReorderReports):
            events.reverse()
        if self._faults.strike(DuplicateReports):
            events = [event for one in events for event in (one, one)]
        for key in self._expires_s:
            for event in events:
                self._hub.publish(key, event)
        self._hub.counters["user_events"] += len(events)
        self._hub.flush()
