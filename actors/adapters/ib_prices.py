"""Last prices of a few stocks, over a gateway session of its own client id.

Owner: a source of signals. It emits `PriceSeen`, at most one a symbol in `interval_ms` (the newest; and only the
newest waits while the actor is busy), with the time at which the tick arrived here: IB's own stamp has whole seconds
and comes apart from the price. It reconnects and subscribes again by itself, also after 1101 (subscriptions are
gone), when a market data farm comes back, and when nothing at all was heard for `silent_s_max`.

Every other notice is counted by its code in the heartbeat's progress, and logged when it is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ib_insync.wrapper import RequestError
from loguru import logger

from actors.adapters import ib_forms
from actors.adapters.assembly import BeatReturned
from actors.adapters.ib_keeper import Connection, Keeper, first_of
from actors.adapters.ib_link import Link, LinkLost, Unanswered
from actors.adapters.ib_wrapper import Observer
from actors.adapters.worker import Worker, end_process
from actors.messages import AnyMessage, PriceSeen
from actors.ports import Clock

SYMBOLS_MAX = 100
"""IB gives a new account so many market data lines."""

LAST, DELAYED_LAST = 4, 68
RESUBSCRIBE_CODES = frozenset({1101, 2104})
QUIET_CODES = frozenset({2104, 2106, 2107, 2108, 2119, 2158})


class PriceSettings(Connection, frozen=True, kw_only=True):
    """Which stocks, and how often at most."""

    symbols: tuple[str, ...]
    interval_ms: int = 250
    delayed: bool = False
    """Take delayed prices where the account has no live ones."""
    silent_s_max: float = 60.0


class PriceDriver(Observer):
    """See the module. `start`, `post`, `drain`, `fileno`, `beat` and `stop` are the actor's; all else is the loop's."""

    def __init__(
        self,
        settings: PriceSettings,
        clock: Clock,
        random_unit: Callable[[], float],
        die: Callable[[str], None] = end_process,
    ) -> None:
        if len(settings.symbols) > SYMBOLS_MAX:
            raise ValueError(f"{len(settings.symbols)} symbols are more than {SYMBOLS_MAX}")
        self.settings = settings
        self._symbols = settings.symbols
        self._clock = clock
        self._worker: Worker[AnyMessage, AnyMessage | BeatReturned] = Worker(f"prices.{settings.client_id}", die)
        self._keeper = Keeper(
            self._worker, self, settings, clock, random_unit, self._serve, self._link_ended, self._library_failed
        )
        self._symbol_of: dict[int, str] = {}
        self._due_s: dict[str, float] = {}
        self._waiting: dict[str, PriceSeen] = {}
        self._ticks = 0
        self._logged: set[str] = set()

    # ---- the actor's side

    def start(self) -> None:
        """Begin to connect; on the actor's thread, after the fork."""
        self._worker.start(self._main, self._take, BeatReturned)

    def post(self, command: AnyMessage) -> None:
        """There are no commands: any ends the process."""
        self._worker.post(command)

    def fileno(self) -> int:
        """Readable while prices wait."""
        return self._worker.fileno()

    def drain(self) -> list[AnyMessage | BeatReturned]:
        """All events that wait."""
        return self._worker.drain()

    def beat(self, nonce: int) -> None:
        """Send a heartbeat through the loop."""
        self._worker.beat(nonce)

    def stop(self) -> None:
        """End the thread and drop the socket, within seconds."""
        self._worker.stop()

    # ---- sessions

    def _take(self, command: AnyMessage) -> None:
        raise TypeError(f"no command for a price driver: {command}")

    async def _main(self) -> None:
        self._renew = asyncio.Event()
        await self._keeper.run()

    async def _serve(self, link: Link) -> None:
        """Subscribe, and again whenever the subscriptions may be gone, until the link is lost."""
        if self.settings.delayed:
            await link.pacer.take(1)
            link.request_delayed_prices()
        while not link.lost.done():
            self._renew.clear()
            await self._subscribe(link)
            await self._listen(link)
        raise LinkLost(link.lost.result())

    async def _listen(self, link: Link) -> None:
        """Return when the subscriptions have to be made anew, or the link is lost."""
        while True:
            heard = self._ticks
            if await first_of(self._renew, link, self.settings.silent_s_max):
                return
            if self._ticks == heard and self._symbols:
                self._worker.count("silent")
                return

    async def _subscribe(self, link: Link) -> None:
        for request_id in self._symbol_of:
            await link.pacer.take(1)
            if link.usable():
                link.cancel_prices(request_id)
        self._symbol_of.clear()
        for symbol in self._symbols:
            try:
                contract = await link.stock(symbol, self.settings.contract_s_max)
            except (RequestError, LookupError, Unanswered) as error:
                self._worker.count("symbols_unknown")
                self._tell_once(f"{symbol}: {error}")
                continue
            await link.pacer.take(1)
            if not link.usable():
                return
            self._symbol_of[link.subscribe_prices(contract)] = symbol
            self._worker.count("subscriptions")
        self._keeper.serving()

    def _link_ended(self, reason: str) -> None:
        self._symbol_of.clear()
        self._worker.count("links_lost")
        self._tell_once(reason)

    # ---- what the link tells

    def price_reported(self, request_id: int, tick_type: int, price: float) -> None:
        """See Observer. IB tells -1 where it has no price."""
        symbol = self._symbol_of.get(request_id)
        self._ticks += 1
        if symbol is None or tick_type not in (LAST, DELAYED_LAST):
            return
        if not price > 0:
            self._worker.count("prices_absent")
            return
        try:
            seen = PriceSeen(symbol, ib_forms.fixed8_of(price), self._clock.now_ns())
        except ib_forms.FormError as error:
            self._library_failed(f"{symbol}: {error}")
            return
        loop = asyncio.get_running_loop()
        wait_s = self._due_s.get(symbol, 0.0) - loop.time()
        if symbol in self._waiting:
            self._waiting[symbol] = seen
            self._worker.count("prices_conflated")
        elif wait_s > 0:
            self._waiting[symbol] = seen
            loop.call_later(wait_s, self._tell_waiting, symbol)
        else:
            self._tell(seen)

    def error_reported(self, request_id: int, code: int, text: str) -> None:
        """See Observer."""
        self._worker.count(f"notice_{code}")
        if code in RESUBSCRIBE_CODES and self._symbol_of:
            self._renew.set()
        if code not in QUIET_CODES:
            self._tell_once(f"{code} {text}")

    def _tell_waiting(self, symbol: str) -> None:
        self._tell(self._waiting.pop(symbol))

    def _tell(self, seen: PriceSeen) -> None:
        self._due_s[seen.symbol] = asyncio.get_running_loop().time() + self.settings.interval_ms / 1000
        self._worker.emit(seen, seen.symbol)

    def _library_failed(self, text: str) -> None:
        self._worker.count("library_errors")
        self._tell_once(text)

    def _tell_once(self, text: str) -> None:
        if text not in self._logged:
            if len(self._logged) >= SYMBOLS_MAX:
                self._logged.clear()
            self._logged.add(text)
            logger.warning("prices, client {}: {}", self.settings.client_id, text)
