"""The baseline of the order path: one process reads a signal, makes it durable, writes the bracket. Nothing else.

`python -m benchmarks.bare_order LEDGER_URL BUS_URL RUN_DIR GATEWAY_PORT CLIENT_ID`: blocks on the same bus stream,
appends two records to a journal through the same script (fsynced), then places three orders with ib_insync as its own
documentation does. Says `ready` on standard output once connected, then `<signal id> <wall ns>` after each write.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import cast

from ib_insync import IB, LimitOrder, Order, Stock, StopOrder

from actors.adapters.bus_streams import SIGNAL_FIELD
from actors.adapters.clock import SystemClock
from actors.adapters.identity import IdentityFile
from actors.adapters.redis_client import Purpose, connect
from actors.adapters.redis_ledger import RedisLedger
from actors.keys import ALL, KeyType, key
from actors.ports import Entry
from actors.signal_form import parse_signal
from kernels.fixed8 import SCALE

Answer = list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]

RECORD = b"x" * 900
"""About what the engine's entries of this path have."""
READ_MS = 200
DRAIN_S = 0.02


def main(arguments: list[str]) -> int:
    """Serve until killed."""
    ledger_url, bus_url, run_dir, port, client_id = arguments
    ib, clock = IB(), SystemClock()
    ib.connect("127.0.0.1", int(port), clientId=int(client_id))
    ledger = RedisLedger(
        connect(ledger_url, Purpose.LEDGER), "bare", f"pid {os.getpid()}", IdentityFile(Path(run_dir) / "identity.json")
    )
    ledger.acquire()
    bus, stream, seq = connect(bus_url, Purpose.READER), key(KeyType.SIGNALS, ALL), 0
    bus.xgroup_create(stream, "bare", id="0", mkstream=True)
    contracts = {}
    print("ready", flush=True)
    while True:
        answer = cast("Answer", bus.xreadgroup("bare", "one", {stream: ">"}, count=1, block=READ_MS))
        if not answer:
            ib.sleep(DRAIN_S)
            continue
        entry_id, fields = answer[0][1][0]
        signal = parse_signal(fields[SIGNAL_FIELD.encode()], 0)
        for _ in range(2):
            seq += 1
            ledger.append([Entry(seq, RECORD)])
        if signal.symbol not in contracts:
            contracts[signal.symbol] = ib.qualifyContracts(Stock(signal.symbol, "SMART", "USD"))[0]
        parent = ib.client.getReqId()
        for order in bracket(parent, signal.limit_px, signal.take_profit_px, signal.stop_px):
            order.orderRef = f"{signal.signal_id}.{order.orderId}"
            ib.placeOrder(contracts[signal.symbol], order)
        print(signal.signal_id, clock.now_ns(), flush=True)
        bus.xack(stream, "bare", entry_id)
        ib.sleep(DRAIN_S)


def bracket(parent: int, limit_px: int, take_profit_px: int, stop_px: int) -> tuple[Order, Order, Order]:
    """Return entry, take-profit and stop; the last transmits all."""
    return (
        LimitOrder("BUY", 1, limit_px / SCALE, orderId=parent, transmit=False),
        LimitOrder("SELL", 1, take_profit_px / SCALE, orderId=parent + 1, parentId=parent, transmit=False),
        StopOrder("SELL", 1, stop_px / SCALE, orderId=parent + 2, parentId=parent, transmit=True),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
