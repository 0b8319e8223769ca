"""The terminal view: the tree, its restarts, the market, orders and positions, gate and halts, twice a second.

A process of its own, which only reads: it may die or be killed without anybody noticing but the person before it.
"""

from __future__ import annotations

import os
import signal
import threading

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from actors.adapters.inspection import EngineAway
from actors.keys import KeyType
from config.schema import Settings
from kernels.fixed8 import format_fixed8
from supervisors.run_files import NotRunning
from supervisors.status import EngineStatus, read_projection, read_status

ROWS_MAX = 8
STATE_STYLE = {"running": "green", "starting": "yellow", "waiting": "yellow", "stopping": "yellow"}

Row = dict[str, object]


class Rates:
    """Counters of this look against those of the one before."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str], int] = {}
        self._uptime_s = 0.0

    def of(self, status: EngineStatus) -> dict[tuple[str, str], float]:
        """Increase a second, by role and counter; a counter that fell belongs to a new incarnation."""
        now = {(role, name): value for role, counters in status.counters.items() for name, value in counters.items()}
        took_s = max(0.001, status.uptime_s - self._uptime_s)
        rates = {key: max(0, value - self._before.get(key, value)) / took_s for key, value in now.items()}
        self._before, self._uptime_s = now, status.uptime_s
        return rates


def show(settings: Settings) -> int:
    """Draw until told to stop (SIGTERM, SIGINT) or the engine's guardian is gone."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    guardian, rates, console = os.getppid(), Rates(), Console()
    with Live(Text("the engine starts …"), console=console, auto_refresh=False, screen=False) as live:
        while not stop.wait(settings.console.refresh_s):
            if os.getppid() != guardian:
                break
            try:
                live.update(draw(settings, rates), refresh=True)
            except (NotRunning, EngineAway) as error:
                live.update(Text(str(error), style="yellow"), refresh=True)
    return 0


def draw(settings: Settings, rates: Rates) -> Group:
    """One look. Raises NotRunning, EngineAway."""
    status = read_status(settings)
    orders = [*read_projection(settings, KeyType.ORDERS).values()]
    positions = [*read_projection(settings, KeyType.POSITIONS).values()]
    return Group(
        _head(status),
        _tree(status),
        _actors(status, rates.of(status)),
        _orders(orders),
        _positions(positions),
        _alarms(status),
    )


def _head(status: EngineStatus) -> Panel:
    gate = status.gate.get("gate", "not reported")
    text = Text(f"run {status.run_id[:8]} · up {status.uptime_s:.0f} s · {status.run_dir}\n")
    text.append(
        "DRY RUN: opportunities are only written down\n" if status.dry_run else "opportunities are traded\n",
        "bold yellow",
    )
    text.append(f"gate {gate}", "bold green" if gate.startswith("open") else "bold red")
    halt = status.halt
    text.append(
        "  ·  no halt" if halt is None else f"  ·  HALTED: {halt.reason} (by {halt.by})",
        "" if halt is None else "bold red",
    )
    return Panel(text, title="Apex", title_align="left")


def _tree(status: EngineStatus) -> Table:
    table = _table("role", "pid", "parent", "state", "restarts", "beat")
    for one in status.processes:
        beat = "" if one.last_beat_age_s is None else f"{one.last_beat_age_s:.1f} s"
        state = Text(one.state, STATE_STYLE.get(one.state, "red"))
        table.add_row(one.role, str(one.pid), one.parent, state, str(one.restarts or ""), beat)
    return table


def _actors(status: EngineStatus, rates: dict[tuple[str, str], float]) -> Table:
    table = _table("actor", "what it shows", "rates")
    for role, detail in status.detail.items():
        shown = " · ".join(f"{name} {value}" for name, value in detail.items())
        fast = [(name, rate) for (owner, name), rate in rates.items() if owner == role and rate >= 0.5]
        fast.sort(key=lambda pair: -pair[1])
        table.add_row(role, shown, " · ".join(f"{name} {rate:.0f}/s" for name, rate in fast[:4]))
    return table


def _orders(orders: list[Row]) -> Table:
    orders.sort(key=lambda row: -_number(row, "placed_ns"))
    table = _table(f"orders ({len(orders)})", "symbol", "side", "type", "state", "qty", "filled", "price", "average")
    for row in orders[:ROWS_MAX]:
        price = _number(row, "limit_px") or _number(row, "stop_px")
        table.add_row(
            str(row.get("leg", "")),
            str(row.get("symbol", "")),
            str(row.get("side", "")),
            str(row.get("order_type", "")),
            str(row.get("state", "")),
            *(format_fixed8(_number(row, name)) for name in ("qty", "cum_qty")),
            format_fixed8(price) if price else "market",
            format_fixed8(_number(row, "avg_px")),
        )
    return table


def _positions(positions: list[Row]) -> Table:
    table = _table("positions", "qty", "average", "realized", "commission")
    for row in positions[:ROWS_MAX]:
        figures = (format_fixed8(_number(row, name)) for name in ("qty", "avg_px", "realized_pnl", "commission"))
        table.add_row(str(row.get("symbol", "")), *figures)
    return table


def _alarms(status: EngineStatus) -> Text:
    text = Text()
    for one in status.alarms[:ROWS_MAX]:
        text.append(f"ALARM {one.role} {one.alarm.name}: {one.alarm.text}\n", "bold red")
    return text


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _number(row: Row, name: str) -> int:
    value = row.get(name, 0)
    return value if isinstance(value, int) else 0
