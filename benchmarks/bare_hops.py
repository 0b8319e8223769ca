"""The bound of the order path: the same processes, threads, durable appends and hops, with nothing decided on the way.

`python -m benchmarks.bare_hops LEDGER_URL BUS_URL RUN_DIR GATEWAY_PORT CLIENT_ID`: two actors of the real actor system.
The first reads the signals' stream on a thread, appends one record (fsynced) and sends the signal on; the second
appends one and hands it to a thread that places three orders with ib_insync. Says `ready` on standard output once
connected, then `<signal id> <wall ns>` after each write. Ends when its standard input does, and takes what it started
with it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal as signals
import sys
from pathlib import Path
from typing import NamedTuple

from ib_insync import IB, Stock
from ib_insync.contract import Contract

from actors.adapters.assembly import BeatReturned
from actors.adapters.clock import SystemClock
from actors.adapters.ib_driver import WAY_S
from actors.adapters.identity import IdentityFile
from actors.adapters.redis_client import Purpose, connect
from actors.adapters.redis_ledger import RedisLedger
from actors.adapters.signal_driver import SignalDriver
from actors.adapters.worker import Worker
from actors.keys import ALL, KeyType, key
from actors.messages import Signal, SignalReceived
from actors.ports import Entry
from benchmarks.bare_order import RECORD, bracket
from supervisors.crash_only import CrashOnlyActor
from supervisors.guardian import EngineProcess
from supervisors.lifeline import ProcessIdentity, die_with_parent
from supervisors.transport import admin_port, start_system

GROUP = "bare"
SYMBOLS = ("SPY", "QQQ", "AAPL", "MSFT", "NVDA", "AMD", "TSLA", "AMZN", "META", "IBM")


class Start(NamedTuple):
    """To either actor; `writer` is the second's address, for the first."""

    ledger_url: str
    bus_url: str
    run_dir: str
    port: int
    client_id: int
    writer: object = None


class Hop(NamedTuple):
    """A signal on its way from the first actor to the second."""

    signal: Signal

    def __str__(self) -> str:
        return "Hop"


class Bare(CrashOnlyActor):
    """What both share: a journal of its own."""

    def begin(self, start: Start, name: str) -> None:
        """Open the journal."""
        self.start, self.seq = start, 0
        identity = IdentityFile(Path(start.run_dir) / "identity.json")
        self.ledger = RedisLedger(connect(start.ledger_url, Purpose.LEDGER), name, f"pid {os.getpid()}", identity)
        self.ledger.acquire()

    def append(self) -> None:
        """One record, durable."""
        self.seq += 1
        self.ledger.append([Entry(self.seq, RECORD)])


class Reader(Bare):
    """The first."""

    def on_message(self, message: object, sender: object) -> None:
        """Start."""
        assert isinstance(message, Start)
        self.begin(message, "bare.reader")
        self.bus = connect(message.bus_url, Purpose.BUS)
        self.driver = SignalDriver(lambda: connect(message.bus_url, Purpose.READER), GROUP, "one")
        self.driver.start()
        self.watch(self.driver.fileno(), self.drain)

    def drain(self) -> None:
        """Signals have come."""
        for event in self.driver.drain():
            assert isinstance(event, SignalReceived)
            self.append()
            self.send(self.start.writer, Hop(event.signal))
            self.bus.xack(key(KeyType.SIGNALS, ALL), GROUP, event.entry_id)


class Writer(Bare):
    """The second, with the session's thread."""

    def on_message(self, message: object, sender: object) -> None:
        """Start, or a signal."""
        if isinstance(message, Start):
            self.begin(message, "bare.writer")
            self.worker: Worker[Signal, BeatReturned] = Worker("bare")
            self.worker.start(self.session, self.place, BeatReturned)
        elif isinstance(message, Hop):
            self.append()
            self.worker.post(message.signal, WAY_S)

    async def session(self) -> None:
        """Connect, resolve every symbol, stay."""
        self.ib, self.clock = IB(), SystemClock()
        await self.ib.connectAsync("127.0.0.1", self.start.port, clientId=self.start.client_id)
        wanted = [Stock(symbol, "SMART", "USD") for symbol in SYMBOLS]
        found: list[Contract] = await self.ib.qualifyContractsAsync(*wanted)
        self.contracts = {contract.symbol: contract for contract in found}
        print("ready", flush=True)
        await asyncio.Event().wait()

    def place(self, signal: Signal) -> None:
        """Write the bracket."""
        parent = self.ib.client.getReqId()
        for order in bracket(parent, signal.limit_px, signal.take_profit_px, signal.stop_px):
            order.orderRef = f"{signal.signal_id}.{order.orderId}"
            self.ib.placeOrder(self.contracts[signal.symbol], order)
        print(signal.signal_id, self.clock.now_ns(), flush=True)


def main(arguments: list[str]) -> int:
    """Serve until standard input ends."""
    ledger_url, bus_url, run_dir, port, client_id = arguments
    start = Start(ledger_url, bus_url, run_dir, int(port), int(client_id))
    guardian = ProcessIdentity.of(os.getpid())
    system = EngineProcess.start(lambda _: _actors(start, guardian))
    try:
        sys.stdin.read()
    finally:
        system.kill_session()
    return 0


def _actors(start: Start, guardian: ProcessIdentity) -> int:
    die_with_parent(guardian.pid)
    system = start_system(admin_port(Path(start.run_dir)), secrets.token_bytes(32))
    writer, reader = system.createActor(Writer), system.createActor(Reader)
    system.tell(writer, start)
    system.tell(reader, start._replace(writer=writer))
    signals.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
