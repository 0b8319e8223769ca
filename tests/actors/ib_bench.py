"""An IB driver on a test's own thread, read only through its descriptor, and a proxy that can stop forwarding."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from actors.adapters.assembly import BeatReturned
from actors.adapters.clock import SystemClock
from actors.adapters.ib_driver import LIBRARY_CODE, IbDriver, IbSettings
from actors.adapters.ib_last_prices import LastPrices
from actors.adapters.ib_prices import PriceSettings
from actors.messages import (
    OrderReported,
    OrderTicket,
    OrderType,
    QueryVenue,
    SessionOpened,
    Side,
    SubmitOrders,
    VenueErrorReported,
    VenueRead,
)
from kernels import ids
from kernels.fixed8 import SCALE, parse_price
from kernels.market_collar import MarketCollar
from tests.library_errors import script

E = TypeVar("E")

WAIT_S_MAX = 60.0


def px(text: str) -> int:
    return parse_price(text)


class Bench:
    """A driver with what it is given, and all events that it emitted, in order."""

    def __init__(
        self,
        port: int,
        client_id: int = 7,
        collar: MarketCollar | None = None,
        prices_dir: Path | None = None,
        **settings: Any,
    ) -> None:
        self.halt = ""
        self.reasons: list[str] = []
        self.events: list[Any] = []
        self.taken = 0
        self.settings = IbSettings(host="127.0.0.1", port=port, client_id=client_id, run_prefix="run-1.1", **settings)
        self.prices: LastPrices | None = None
        if collar is not None:
            of_prices = PriceSettings(host="127.0.0.1", port=port, client_id=client_id + 100, symbols=("SPY",))
            self.prices = LastPrices(of_prices, SystemClock(), lambda: 0.5, prices_dir, self.reasons.append)
        self.driver = IbDriver(
            self.settings,
            SystemClock(),
            lambda: self.halt,
            lambda: 0.5,
            self.reasons.append,
            collar=collar,
            prices=self.prices,
        )

    def pump(self, seconds_max: float = 0.0) -> bool:
        """Take what waits, or what comes within the time; False if nothing came."""
        if not select.select([self.driver.fileno()], [], [], max(0.0, seconds_max))[0]:
            return False
        self.events += self.driver.drain()
        return True

    def wait(self, kind: type[E], matches: Callable[[E], bool] = lambda _: True, within_s: float = WAIT_S_MAX) -> E:
        """Return the next event of this kind that matches, and pass by all before it; fail when none comes."""
        deadline = time.monotonic() + within_s
        while True:
            while self.taken < len(self.events):
                event = self.events[self.taken]
                self.taken += 1
                if isinstance(event, kind) and matches(event):
                    return event
            left_s = deadline - time.monotonic()
            assert not self.reasons
            assert left_s > 0, f"no {kind.__name__} within {within_s} s: {self.events[-12:]}"
            self.pump(left_s)

    def until(self, condition: Callable[[], bool], within_s: float = WAIT_S_MAX) -> None:
        """Take events until the condition holds of them; passes none by."""
        deadline = time.monotonic() + within_s
        while not condition():
            left_s = deadline - time.monotonic()
            assert not self.reasons
            assert left_s > 0, f"not within {within_s} s: {self.events[-12:]}"
            self.pump(min(left_s, 0.2))

    def opened(self) -> SessionOpened:
        return self.wait(SessionOpened)

    def settled(self) -> None:
        """Wait until the loop has done all that was posted before, by a heartbeat through it."""
        self.driver.beat(99)
        self.wait(BeatReturned)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def library_errors(self) -> list[str]:
        return [event.text for event in self.of(VenueErrorReported) if event.code == LIBRARY_CODE]

    def __enter__(self) -> Bench:
        self.driver.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.stop()
        assert not self.reasons, self.reasons


def bracket(
    session: SessionOpened,
    signal_id: str = "s1",
    symbol: str = "SPY",
    first_order_id: int = 0,
    shares: int = 10,
    entry_px: str = "501.00",
    profit_px: str = "510.00",
    stop_px: str = "490.00",
) -> SubmitOrders:
    """A long bracket: a limit entry, a limit take-profit and a stop, the last of them transmitting."""
    parent = first_order_id or session.next_order_id
    entry = OrderTicket(
        client_order_id=ids.client_order_id("fund", signal_id, "entry"),
        venue_order_id=parent,
        parent_order_id=0,
        symbol=symbol,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        qty=shares * SCALE,
        limit_px=px(entry_px),
        stop_px=0,
        account=session.account,
        transmit=False,
    )
    child = {"parent_order_id": parent, "side": Side.SELL}
    profit = msgspec.structs.replace(
        entry,
        client_order_id=ids.client_order_id("fund", signal_id, "take_profit"),
        venue_order_id=parent + 1,
        limit_px=px(profit_px),
        **child,
    )
    stop = msgspec.structs.replace(
        entry,
        client_order_id=ids.client_order_id("fund", signal_id, "stop_loss"),
        venue_order_id=parent + 2,
        order_type=OrderType.STOP,
        limit_px=0,
        stop_px=px(stop_px),
        transmit=True,
        **child,
    )
    return SubmitOrders(ids.family_id("fund", signal_id), session.session_id, (entry, profit, stop))


def read(bench: Bench, session: SessionOpened, positions_only: bool = False) -> VenueRead:
    bench.driver.post(QueryVenue(session.session_id, f"q{bench.taken}", positions_only))
    return bench.wait(VenueRead)


def statuses(bench: Bench, client_order_id: str) -> list[str]:
    told = [report.status for report in bench.of(OrderReported) if report.client_order_id == client_order_id]
    return [status for status, before in zip(told, [None, *told], strict=False) if status != before]


class Proxy:
    """A TCP relay to the gateway: it keeps what the client sent, can go silent both ways with its sockets left open,
    and hands each message of the gateway to `rewrite` (which returns what goes on instead; None: nothing)."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.from_client = bytearray()
        self.connections = 0
        self.silent_below = 0
        """Connections numbered below this forward nothing."""
        self.reading = threading.Event()
        """Cleared: takes no more bytes from the client, until its socket is full."""
        self.reading.set()
        self._rewrite: Callable[[list[str]], list[str] | None] | None = None
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def rewrite(self) -> Callable[[list[str]], list[str] | None] | None:
        return self._rewrite

    @rewrite.setter
    def rewrite(self, change: Callable[[list[str]], list[str] | None] | None) -> None:
        script("tampered")
        self._rewrite = change

    def go_silent(self) -> None:
        """Stop forwarding on all connections that are there now; later ones work."""
        script("half_open")
        self.silent_below = self.connections + 1

    def inject(self, fields: list[str]) -> None:
        """Send the client a message that the gateway never sent."""
        script("tampered")
        self._sockets[-2].sendall(_framed(fields))

    def close(self) -> None:
        script("drop")
        self.reading.set()
        for one in [self._server, *self._sockets]:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return
            self.connections += 1
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(
                    target=self._relay, args=(self.connections, source, target, source is client), daemon=True
                ).start()

    def _relay(self, number: int, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        waiting = bytearray()
        try:
            while data := source.recv(1 << 16):
                if from_client:
                    self.reading.wait()
                if number < self.silent_below:
                    continue
                if from_client:
                    self.from_client += data
                    target.sendall(data)
                else:
                    waiting += data
                    for message in self._messages(waiting):
                        target.sendall(message)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _messages(self, waiting: bytearray) -> Iterator[bytes]:
        """Take whole messages off the front."""
        while len(waiting) >= 4 and len(waiting) >= (end := 4 + int.from_bytes(waiting[:4], "big")):
            fields = waiting[4:end].decode().split("\0")[:-1]
            del waiting[:end]
            going = self.rewrite(fields) if self.rewrite else fields
            if going is not None:
                yield _framed(going)


def _framed(fields: list[str]) -> bytes:
    body = "".join(field + "\0" for field in fields).encode()
    return len(body).to_bytes(4, "big") + body
