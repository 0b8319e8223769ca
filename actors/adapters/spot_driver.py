"""The driver of `broker.spot`: orders over REST and the user stream of one account of the spot exchange.

Owner: the broker of the spot exchange. A session begins with `SpotSessionOpened`: the venue's clock is known, the
account was read, the user stream is connected and has answered a ping. It ends with `SpotSessionLost`: the stream's
connection is gone, half-open (found within 6 s), its listenKey is over, or it said something that cannot be read.
Then a new one is opened, after a pause that grows and is never the same twice, and not before the venue said.

Reports are a venue's claims: those of replies carry the session in which the order was written, those of the stream
the one in which they came. What the stream says before a session begins is not reported: whoever begins a session
reads the account. Nothing is sent twice; `spot_submissions` has what becomes of an order.

Full: a query beyond `QUERIES_MAX` waiting ones is answered at once, as one in which everything failed.
"""

from __future__ import annotations

import asyncio
import itertools
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.adapters import spot_forms
from actors.adapters.assembly import BeatReturned
from actors.adapters.backoff import Backoff
from actors.adapters.driver_thread import DriverThread
from actors.adapters.spot_http import Connections, NotConnected, parse_base
from actors.adapters.spot_key import read_key
from actors.adapters.spot_queries import SpotQueries
from actors.adapters.spot_rest import Away, RestLimits, SpotRest, VenueRefused
from actors.adapters.spot_stream import TICK_S, UserStream
from actors.adapters.spot_submissions import SpotSubmissions
from actors.adapters.worker import Worker, end_process
from actors.messages import (
    AnyMessage,
    CancelSpotOrder,
    QuerySpotOrder,
    ReadSpotAccount,
    SpotSessionLost,
    SpotSessionOpened,
    SubmitSpotOrder,
)
from actors.ports import Clock

RECONNECT_S_MIN: Final = 0.1
RECONNECT_S_MAX: Final = 5.0
STABLE_S: Final = 10.0
"""A session that lasted this long was a good one: only then does the next pause begin short again."""
WARM_CONNECTIONS: Final = 3
"""One for each leg of a cycle, so that no order waits for a handshake."""
CONNECTIONS_MAX: Final = 8
STREAM_PATH: Final = "/api/v3/userDataStream"


class SpotSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`run_prefix` is unique for ever: run id and incarnation. The key file holds {"api_key", "secret"}, mode 0600."""

    rest_url: str
    ws_url: str
    api_key_file: str
    run_prefix: str
    limits: RestLimits = RestLimits()
    connect_s_max: float = 3.0
    keepalive_s: float = 1_500.0
    """How often the listenKey is prolonged, which the venue lets die after an hour."""
    clock_s: float = 60.0
    """How often the venue's clock is asked for."""
    retry_s: float = 10.0
    """How soon a keepalive or clock question that failed is asked again."""


class SpotDriver(DriverThread):
    """See the module. `start`, `post`, `drain`, `fileno`, `beat` and `stop` are the actor's; all else is the loop's."""

    def __init__(
        self,
        settings: SpotSettings,
        clock: Clock,
        halted: Callable[[], str],
        random_unit: Callable[[], float],
        die: Callable[[str], None] = end_process,
    ) -> None:
        """`halted` returns the reason of a latched halt, empty for none; it is asked right before every write."""
        super().__init__("spot")
        self.worker: Worker[AnyMessage, AnyMessage | BeatReturned] = Worker("spot", die)
        self._settings, self._clock, self._halted = settings, clock, halted
        self._backoff = Backoff(RECONNECT_S_MIN, RECONNECT_S_MAX, random_unit)
        self._session_numbers = itertools.count(1)
        self._session_id = ""
        self._stream: UserStream | None = None

    # ---- commands

    def handle(self, command: AnyMessage) -> None:
        """Take a command."""
        match command:
            case SubmitSpotOrder() | CancelSpotOrder():
                self._submissions.take(command)
            case QuerySpotOrder() | ReadSpotAccount():
                self._queries.take(command)
            case _:
                raise TypeError(f"no command for the spot exchange's driver: {type(command).__name__}")

    async def _main(self) -> None:
        settings = self._settings
        connections = Connections(parse_base(settings.rest_url), settings.connect_s_max, CONNECTIONS_MAX)
        rest = self._rest = SpotRest(connections, read_key(Path(settings.api_key_file)), self._clock, settings.limits)
        self._ask_clock = asyncio.Event()
        self._submissions = SpotSubmissions(
            self.worker, rest, self._clock, self._halted, lambda: self._session_id, self._ask_clock.set
        )
        self._queries = SpotQueries(self.worker, rest, self._clock, lambda: self._session_id)
        self.worker.spawn(self._submissions.run(), "submissions")
        self.worker.spawn(self._queries.run(), "queries")
        try:
            await self._sessions()
        finally:
            connections.close()

    # ---- sessions

    async def _sessions(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began_s, told_s = loop.time(), 0.0
            try:
                await self._session()
            except (Away, VenueRefused, NotConnected, spot_forms.Unreadable) as error:
                told_s = error.stay_away_s if isinstance(error, Away) else 0.0
                self._end_session(str(error))
            if loop.time() - began_s >= STABLE_S:
                self._backoff.reset()
            await asyncio.sleep(max(self._backoff.next_s(), told_s))

    async def _session(self) -> None:
        """Open a session and serve it until it is lost. Raises what ended it."""
        rest = self._rest
        await rest.sync_clock()
        key = spot_forms.listen_key(await rest.call("POST", STREAM_PATH, {}, 2, "key"))
        stream = self._stream = UserStream(self._clock, self._on_event)
        try:
            await stream.connect(f"{self._settings.ws_url.rstrip('/')}/ws/{key}", self.worker.guard)
            state = spot_forms.account(await rest.call("GET", "/api/v3/account", {}, 20, "signed"))
            await rest.connections.warm(WARM_CONNECTIONS)
            if not stream.lost.done():
                self._begin_session(state.account)
            keeping = asyncio.create_task(self._keep(stream, key), name="spot keepalive")
            either: set[asyncio.Future[Any]] = {stream.lost, keeping}
            try:
                while not stream.lost.done():
                    stream.tick(self._clock.now_ns())
                    await asyncio.wait(either, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
                    if keeping.done() and not stream.lost.done():
                        keeping.result()
            finally:
                keeping.cancel()
        finally:
            stream.lose("the session is over")
        raise Away(stream.lost.result())

    def _begin_session(self, account: str) -> None:
        number = next(self._session_numbers)
        self._session_id = f"{self._settings.run_prefix}-{self._clock.now_ns()}-{number}"
        self.worker.count("sessions")
        self.worker.emit(SpotSessionOpened(self._session_id, account))

    def _end_session(self, reason: str) -> None:
        if self._session_id:
            session_id, self._session_id = self._session_id, ""
            self.worker.count("sessions_lost")
            self.worker.emit(SpotSessionLost(session_id, reason))
        else:
            self.worker.count("sessions_not_opened")

    async def _keep(self, stream: UserStream, key: str) -> None:
        """Prolong the listenKey and follow the venue's clock while the session lasts."""
        settings, loop = self._settings, asyncio.get_running_loop()
        key_due_s, clock_due_s = loop.time() + settings.keepalive_s, loop.time() + settings.clock_s
        while True:
            try:
                async with asyncio.timeout(max(0.0, min(key_due_s, clock_due_s) - loop.time())):
                    await self._ask_clock.wait()
                clock_due_s = loop.time()
            except TimeoutError:
                pass
            self._ask_clock.clear()
            if loop.time() >= clock_due_s:
                clock_due_s = loop.time() + (settings.clock_s if await self._clock_asked() else settings.retry_s)
                await self._warmed()
            if loop.time() >= key_due_s:
                key_due_s = loop.time() + (settings.keepalive_s if await self._kept(stream, key) else settings.retry_s)

    async def _clock_asked(self) -> bool:
        try:
            await self._rest.sync_clock()
        except (Away, VenueRefused, spot_forms.Unreadable):
            self.worker.count("clock_unanswered")
            return False
        self.worker.count("clock_asked")
        return True

    async def _warmed(self) -> None:
        """Open anew what the venue closed while nothing was sent: the next orders find connections that are open."""
        try:
            await self._rest.connections.warm(WARM_CONNECTIONS)
        except NotConnected:
            self.worker.count("connections_not_opened")

    async def _kept(self, stream: UserStream, key: str) -> bool:
        try:
            await self._rest.call("PUT", STREAM_PATH, {"listenKey": urllib.parse.quote(key)}, 2, "key")
        except VenueRefused as error:
            self.worker.count("keepalives_refused")
            if error.code == spot_forms.NO_SUCH_KEY:
                stream.lose("the listenKey is over")
            return False
        except Away:
            self.worker.count("keepalives_unanswered")
            return False
        self.worker.count("keepalives")
        return True

    # ---- what the stream says

    def _on_event(self, payload: bytes) -> None:
        try:
            news = spot_forms.stream_event(self._session_id, payload)
        except spot_forms.Unreadable as error:
            self.worker.count("events_unreadable")
            if self._stream is not None:
                self._stream.lose(f"an event that cannot be read: {error}")
            return
        match news:
            case spot_forms.ListenKeyExpired():
                if self._stream is not None:
                    self._stream.lose("the listenKey expired")
            case spot_forms.OtherEvent():
                self.worker.count("events_of_other_kinds")
            case messages if self._session_id:
                self.worker.count("stream_events")
                for message in messages:
                    self.worker.emit(message)
            case _:
                self.worker.count("events_before_the_session")
