"""One look at an engine as lines of text that fit a terminal: pure, so that it can be drawn from a status made by hand.

What matters most stands first and is never cut off: dry run, gate, halt, alarms. Then the tree, what the actors say,
positions, and as many orders as there is room for, working ones before done ones, newest first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec
from rich.text import Text

from actors.adapters.health import ProcessReport
from kernels.fixed8 import format_fixed8
from supervisors.latency import StageLatency
from supervisors.status import EngineStatus

Row = dict[str, object]

RATE_WINDOW_S = 5.0
"""Reports come about once a second: a rate over less than a few of them would jump."""

RATE_LOOKS_MAX = 64
ALARMS_SHARE = 0.25
TREE_SHARE = 0.45
MONEY_LINES_MIN = 3
"""Kept for positions and the first order, however many actors have something to say."""
COLUMN_WIDTH_MIN = 39
BEAT_WIDTH_MIN = 50
NAME_WIDTH = 16
STATE_STYLE = {"running": "green", "starting": "yellow", "waiting": "yellow", "stopping": "yellow"}
DONE = ("filled", "cancelled", "rejected", "expired")
ORDER_STYLE = {"filled": "green", "rejected": "red", "unknown": "bold red", "expired": "red"}

SHOWN: tuple[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    ("feed.", ("feed",), (), ("frames",)),
    ("book", ("feeds",), ("rows_valid", "rows_invalid"), ()),
    ("evaluator", ("opportunities", "last window", "cycles"), (), ("evaluations",)),
    ("health", ("suspicions",), (), ()),
    ("broker.", ("gate", "working", "unresolved", "held", "uptime 7 d"), (), ()),
    ("reconciler", ("gate", "read", "divergences", "absent"), (), ()),
    ("allocator", ("submitted", "refused", "open brackets"), (), ()),
    ("sentinel", ("stops", "due", "inert", "unprotected"), (), ()),
)
"""By role: of what it says of itself, of its counters, and of its rates, what is shown first. The rest follows."""

HIDDEN = {"mode", "image", "session", "since", "downs", "positions"}
"""Said elsewhere on the screen, or of no use at a glance; `status --json` has all."""


class Look(msgspec.Struct, frozen=True):
    """What one picture is made of. `notice`: why the status is older than now, empty if it is not."""

    status: EngineStatus
    orders: tuple[Row, ...] = ()
    positions: tuple[Row, ...] = ()
    rates: dict[tuple[str, str], float] = {}
    notice: str = ""


class Rates:
    """Counters over the last seconds; a counter that fell belongs to a new incarnation and counts from there."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, dict[tuple[str, str], int]]] = deque(maxlen=RATE_LOOKS_MAX)

    def of(self, status: EngineStatus) -> dict[tuple[str, str], float]:
        """Increase a second, by role and counter; empty at the first look."""
        now = {(role, name): value for role, counters in status.counters.items() for name, value in counters.items()}
        at_s = status.uptime_s
        if self._looks and at_s < self._looks[-1][0]:
            self._looks.clear()
        self._looks.append((at_s, now))
        while len(self._looks) > 2 and at_s - self._looks[1][0] >= RATE_WINDOW_S:
            self._looks.popleft()
        before_s, before = self._looks[0]
        if at_s <= before_s:
            return {}
        return {key: max(0, value - before.get(key, 0)) / (at_s - before_s) for key, value in now.items()}


def picture(look: Look, width: int, height: int) -> Text:
    """Return at most `height` lines of at most `width` cells."""
    status = look.status
    lines = [*_head(look), *_alarms(status, max(1, int(height * ALARMS_SHARE)))]
    lines += _tree(status.processes, width, max(1, int(height * TREE_SHARE)))
    said = _actors(look)
    if status.latencies:
        said.append(_latencies(status.latencies))
    lines += said[: max(0, height - len(lines) - MONEY_LINES_MIN)]
    lines.append(_positions(look.positions))
    lines += _orders(look.orders, height - len(lines))
    shown = lines[:height]
    for line in shown:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True).join(shown)


def _head(look: Look) -> Iterator[Text]:
    status = look.status
    running = sum(one.state == "running" for one in status.processes)
    first = Text("Apex", "bold")
    first.append(f" · run {status.run_id[:8]} · up {_duration(status.uptime_s)} · ", "not bold")
    whole = running == len(status.processes)
    first.append(f"{running}/{len(status.processes)} processes run", "not bold green" if whole else "not bold yellow")
    first.append(f" · {status.run_dir}", "not bold dim")
    yield first
    second = Text()
    gate = status.gate.get("gate", "not reported yet")
    second.append(f"gate {gate}", "bold green" if gate.startswith("open") else "bold red")
    second.append(" · ")
    second.append(
        "DRY RUN: opportunities are only written down" if status.dry_run else "opportunities are traded", "bold yellow"
    )
    if status.halt is None:
        second.append(" · no halt")
    yield second
    if status.halt is not None:
        yield Text(f"HALTED: {status.halt.reason} (by {status.halt.by}). Clear with: run.py resume", "bold reverse red")
    if not status.running:
        yield Text("NOT RUNNING: this is what was last known", "bold reverse red")
    if look.notice:
        yield Text(look.notice, "yellow")


def _alarms(status: EngineStatus, room: int) -> list[Text]:
    """The newest in what room there is; the last line says how many more stand."""
    standing = sorted(status.alarms, key=lambda one: -one.alarm.since_ns)
    shown = [Text(f"ALARM {one.role} {one.alarm.name}: {one.alarm.text}", "bold red") for one in standing[:room]]
    if len(standing) > room:
        shown[-1] = Text(f"… and {len(standing) - room + 1} alarms more: run.py status", "bold red")
    return shown


# ---- the tree


def _tree(processes: tuple[ProcessReport, ...], width: int, room: int) -> list[Text]:
    """Depth first, down the columns; as few columns as fit the room."""
    nodes = list(_walk(processes, {one.role for one in processes}))
    columns_max = max(1, width // COLUMN_WIDTH_MIN)
    columns = next((n for n in range(1, columns_max + 1) if -(-len(nodes) // n) <= room), columns_max)
    rows = -(-len(nodes) // columns)
    cells = [_process(one, depth, width // columns) for depth, one in nodes]
    return [Text("").join(cells[row::rows]) for row in range(rows)]


def _walk(processes: tuple[ProcessReport, ...], roles: set[str]) -> Iterator[tuple[int, ProcessReport]]:
    children: dict[str, list[ProcessReport]] = {}
    for one in processes:
        children.setdefault(one.parent if one.parent in roles else "", []).append(one)
    pending = [(0, one) for one in reversed(children.get("", []))]
    seen: set[str] = set()
    while pending:
        depth, one = pending.pop()
        if one.role in seen:
            continue
        seen.add(one.role)
        yield depth, one
        pending += [(depth + 1, child) for child in reversed(children.get(one.role, []))]


def _process(one: ProcessReport, depth: int, width: int) -> Text:
    cell = Text(f"{' ' * depth}{one.role}"[:20].ljust(21))
    cell.append(f"{one.pid or '':>7} ", "dim")
    restarts = f" ×{one.restarts}" if one.restarts else ""
    cell.append(one.state, STATE_STYLE.get(one.state, "bold red"))
    cell.append(restarts, "yellow")
    if width >= BEAT_WIDTH_MIN and one.last_beat_age_s is not None:
        cell.append(f" beat {one.last_beat_age_s:.0f} s", "dim")
    cell.truncate(width - 1)
    cell.pad_right(width - cell.cell_len)
    return cell


# ---- what the actors say


def _actors(look: Look) -> list[Text]:
    names = list(look.status.detail)
    order = [prefix for prefix, *_ in SHOWN]
    names.sort(key=lambda name: next((k for k, prefix in enumerate(order) if name.startswith(prefix)), len(order)))
    return [_actor(look, name) for name in names]


def _actor(look: Look, role: str) -> Text:
    detail, counters = look.status.detail[role], look.status.counters.get(role, {})
    first, counted, rated = next((rest for prefix, *rest in SHOWN if role.startswith(prefix)), ((), (), ()))
    parts = [f"{name} {detail[name]}" for name in first if name in detail]
    parts += [f"{name.replace('_', ' ')} {counters.get(name, 0)}" for name in counted]
    parts += [f"lag {counters['lag_us'] / 1_000:.1f} ms"] if "lag_us" in counters else []
    parts += [f"{name} {look.rates[role, name]:,.0f}/s" for name in rated if (role, name) in look.rates]
    parts += [f"{name} {_short(value)}" for name, value in detail.items() if name not in first and name not in HIDDEN]
    line = Text(role.ljust(NAME_WIDTH))
    line.append(" · ".join(parts), "not dim")
    line.stylize("dim", 0, NAME_WIDTH)
    return line


def _latencies(stages: tuple[StageLatency, ...]) -> Text:
    """Median and 99th percentile by stage; the number before a stage's name only orders them."""
    parts = [f"{one.stage.partition(' ')[2]} {_micros(one.p50_us)}, p99 {_micros(one.p99_us)}" for one in stages]
    line = Text("latency".ljust(NAME_WIDTH) + " · ".join(parts))
    line.stylize("dim", 0, NAME_WIDTH)
    return line


def _micros(us: float) -> str:
    return f"{us:,.0f} µs" if us < 1_000 else f"{us / 1_000:,.1f} ms"


def _positions(positions: tuple[Row, ...]) -> Text:
    rows = [row for row in positions if _number(row, "qty")]
    held = [f"{row.get('symbol', '')} {_fixed(row, 'qty')} @ {_price(row, 'avg_px')}" for row in rows]
    realized = sum(_number(row, "realized_pnl") for row in positions)
    line = Text("positions".ljust(NAME_WIDTH) + (" · ".join(held) or "flat"))
    line.append(f" · realized {_short(format_fixed8(realized))}")
    line.stylize("dim", 0, NAME_WIDTH)
    return line


def _orders(orders: tuple[Row, ...], room: int) -> list[Text]:
    working = sum(row.get("state") not in DONE for row in orders)
    ordered = sorted(orders, key=lambda row: (row.get("state") in DONE, -_number(row, "placed_ns")))
    if not ordered:
        return [Text("orders".ljust(NAME_WIDTH) + "none yet")][:room]
    head = f"orders: {working} working, {len(orders) - working} done"
    head = f"{head:<26} {'type':<4} {'qty':>6} {'filled':>6} {'price':>9} {'average':>9} state"
    return [Text(head, "dim"), *(_order(row) for row in ordered[: max(0, room - 1)])]


def _order(row: Row) -> Text:
    price = "limit_px" if _number(row, "limit_px") else "stop_px"
    shown = _price(row, price) if _number(row, price) else "market"
    filled = _price(row, "avg_px") if _number(row, "avg_px") else ""
    line = Text(f"  {row.get('symbol', ''):<6} {row.get('leg', ''):<11} {row.get('side', ''):<5}")
    line.append(f" {row.get('order_type', ''):<4} {_fixed(row, 'qty'):>6} {_fixed(row, 'cum_qty'):>6}")
    line.append(f" {shown:>9} {filled:>9} ")
    state = str(row.get("state", ""))
    line.append(state, ORDER_STYLE.get(state, ""))
    return line


def _number(row: Row, name: str) -> int:
    value = row.get(name, 0)
    return value if isinstance(value, int) else 0


def _fixed(row: Row, name: str) -> str:
    return _short(format_fixed8(_number(row, name)))


def _price(row: Row, name: str) -> str:
    """At least two places, so that columns of prices line up."""
    whole, _, part = _fixed(row, name).partition(".")
    return f"{whole}.{part:0<2}"


def _short(text: str) -> str:
    """Without the zeros at the end of a decimal of eight places."""
    return text.rstrip("0").rstrip(".") if text[-9:-8] == "." and text[-8:].isdigit() else text


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds) // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
