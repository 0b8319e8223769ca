"""Keeps one client connected to an IB gateway: a new link each time, probed while it serves, backoff in between."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from ib_insync.wrapper import RequestError

from actors.adapters.backoff import Backoff
from actors.adapters.ib_link import Link, LinkLost, Unanswered
from actors.adapters.ib_log import LibraryLog
from actors.adapters.ib_wrapper import Observer
from actors.adapters.worker import Worker
from actors.ports import Clock
from kernels.recurring import Span, begun_ns

NO_LOGIN = Span(0, 0)
STABLE_S = 5.0
"""A connection that served this long resets the backoff."""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how to connect. A half-open socket is found within `probe_every_s + probe_s_max`.

    In the span `login` the gateway waits for a person, and is tried at most every `login_backoff_s`.
    """

    host: str
    port: int
    client_id: int
    connect_s_max: float = 5.0
    request_s_max: float = 10.0
    contract_s_max: float = 4.0
    probe_every_s: float = 3.0
    probe_s_max: float = 4.0
    backoff_s_min: float = 0.1
    backoff_s_max: float = 5.0
    login: Span = NO_LOGIN
    login_backoff_s: float = 30.0
    messages_per_s_max: int = 45


class Keeper:
    """Runs on a worker's loop. `serve` gets each connected link and returns or raises when it is done with it."""

    def __init__(
        self,
        worker: Worker[Any, Any],
        observer: Observer,
        connection: Connection,
        clock: Clock,
        random_unit: Callable[[], float],
        serve: Callable[[Link], Awaitable[None]],
        ended: Callable[[str], None],
        library_failed: Callable[[str], None],
    ) -> None:
        """`ended` is told once a link is over or never came, with the reason, before the next is tried."""
        self.link: Link | None = None
        self.probing = True
        """False while the owner asks the same question itself: answers carry no number."""
        self._worker = worker
        self._observer = observer
        self._connection = connection
        self._clock = clock
        self._serve = serve
        self._ended = ended
        self._library_failed = library_failed
        self._served_from_s = math.inf
        self._backoff = Backoff(connection.backoff_s_min, connection.backoff_s_max, random_unit)

    async def run(self) -> None:
        """Connect, serve, end, wait, again; until cancelled."""
        loop = asyncio.get_running_loop()
        with LibraryLog(self._worker.guard(self._told_by_library)):
            while True:
                self._served_from_s = math.inf
                await self._once()
                if loop.time() - self._served_from_s > STABLE_S:
                    self._backoff.reset()
                await asyncio.sleep(self._backoff.next_s(self._s_max()))

    def _s_max(self) -> float:
        connection = self._connection
        waits_for_a_person = begun_ns(connection.login, self._clock.now_ns()) is not None
        return connection.login_backoff_s if waits_for_a_person else connection.backoff_s_max

    def serving(self) -> None:
        """The owner has got what it connected for."""
        self._served_from_s = min(self._served_from_s, asyncio.get_running_loop().time())

    def _told_by_library(self, name: str, text: str) -> None:
        self._library_failed(f"{name}: {text}")
        if name.startswith("eventkit") and self.link is not None:
            # An exception of the library's own was swallowed half way through a packet.
            self.link.lose(f"the library failed: {text}")

    async def _once(self) -> None:
        connection = self._connection
        link = self.link = Link(self._observer, self._worker.guard, connection.messages_per_s_max)
        self._worker.count("connects")
        try:
            await link.connect(connection.host, connection.port, connection.client_id, connection.connect_s_max)
            probe = self._worker.spawn(self._probe(link), "probe")
            try:
                await self._serve(link)
            finally:
                probe.cancel()
        except (LinkLost, Unanswered, RequestError) as error:
            link.lose(str(error))
        finally:
            link.lose("given up")
            self._ended(link.lost.result())
            link.close()
            self.link = None

    async def _probe(self, link: Link) -> None:
        """Find a socket that is open on our side only: nothing else would notice it."""
        connection = self._connection
        while True:
            await asyncio.sleep(connection.probe_every_s)
            if not self.probing:
                continue
            try:
                await link.current_time(connection.probe_s_max)
            except Unanswered:
                link.lose(f"probe not answered within {connection.probe_s_max} s: half-open socket")
                # Now, and not when the serving task gets its turn: no submission may slip in between.
                self._ended(link.lost.result())
                return
            except LinkLost:
                return
            self._worker.count("probes")


async def first_of(event: asyncio.Event, link: Link, seconds_max: float | None = None) -> bool:
    """Wait until the event is set or the link is lost; False if neither came in time."""
    waiting = asyncio.ensure_future(event.wait())
    waited: set[asyncio.Future[Any]] = {waiting, link.lost}
    try:
        done, _ = await asyncio.wait(waited, timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return bool(done)
