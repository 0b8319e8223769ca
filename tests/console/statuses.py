"""An engine's status made by hand."""

from __future__ import annotations

import msgspec

from actors.adapters.health import ProcessReport, StandingAlarm
from actors.adapters.identity import Halt
from actors.effects import Severity
from supervisors.status import ActorAlarm, EngineStatus

TREE = (
    ("run.py", ""), ("redis.ledger", "run.py"), ("redis.bus", "run.py"), ("exchange", "run.py"),
    ("gateway", "run.py"), ("starter", "run.py"), ("admin", "run.py"), ("root", "run.py"),
    ("broker.paper", "brokers"), ("brokers", "execution"), ("reconciler", "execution"), ("allocator", "execution"),
    ("feed.spot.0", "feeds"), ("book", "market"), ("feeds", "market"), ("evaluator", "market"),
    ("source.momentum", "research"), ("market", "root"), ("execution", "root"), ("research", "root"),
)  # fmt: skip


def process(role: str, parent: str, pid: int, state: str = "running", restarts: int = 0) -> ProcessReport:
    return ProcessReport(role, pid, parent, state, restarts, restarts + 1, 1.5, "")


HAND_MADE = EngineStatus(
    running=True,
    run_id="0123456789abcdef",
    pid=100,
    uptime_s=10.0,
    dry_run=True,
    processes=tuple(process(role, parent, 100 + k) for k, (role, parent) in enumerate(TREE)),
    counters={"feed.spot.0": {"frames": 1000, "lag_us": 250}, "book": {"rows_valid": 58, "rows_invalid": 2}},
    detail={
        "feed.spot.0": {"feed": "up", "since": "10 s"},
        "book": {"image": "60 rows", "feeds": "1 up, 0 down"},
        "evaluator": {"mode": "DRY RUN: nothing is sent", "opportunities": "6", "last": "BTCUSDT:BUY net 1.0050"},
        "reconciler": {"gate": "open", "divergences": "0"},
    },
    alarms=(),
    gate={"gate": "open"},
    halt=None,
    run_dir="/somewhere/run",
)

HALTED = msgspec.structs.replace(HAND_MADE, halt=Halt("by a test", "a person", 1), gate={"gate": "shut"})


def with_alarms(count: int) -> EngineStatus:
    alarms = tuple(
        ActorAlarm("broker.paper", StandingAlarm(f"alarm_{k}", Severity.CRITICAL, "look at it", k, 1))
        for k in range(count)
    )
    return msgspec.structs.replace(HAND_MADE, alarms=alarms)


def order(symbol: str, state: str, placed_ns: int) -> dict[str, object]:
    return {
        "symbol": symbol, "leg": "take_profit", "side": "SELL", "order_type": "LMT", "state": state, "qty": 3 * 10**8,
        "cum_qty": 0, "avg_px": 0, "limit_px": 41_550_000_000, "stop_px": 0, "placed_ns": placed_ns,
    }  # fmt: skip
