"""What the ledger's projections say of orders, positions, fills and the reconciler, for people and programs.

Reads only. `ask_now` leaves a wish for the reconciler and waits for its answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from actors.adapters.ask_driver import write_ask
from actors.adapters.inspection import EngineAway
from actors.adapters.price_file import LastPrice, read_last_prices
from actors.keys import ALL, KeyType
from actors.messages import ReconcileNow
from actors.reconciler_state import MoneyView, ReconcileView, Standing
from config.schema import Settings
from kernels.fixed8 import SCALE, format_fixed8
from kernels.order_state import UNRESOLVED, WORKING
from kernels.positions import divide_half_even
from supervisors.opportunities import clock_text
from supervisors.run_files import read_engine_file
from supervisors.status import read_projection, read_status

Row = dict[str, object]

ORDER_COLUMNS = (
    "client_order_id", "symbol", "leg", "side", "order_type", "state", "qty", "cum_qty", "avg_px", "limit_px",
    "stop_px",
)  # fmt: skip
CYCLE_COLUMNS = (
    "client_order_id", "symbol", "side", "state", "qty", "cum_qty", "cum_quote_qty", "limit_px", "ended",
)  # fmt: skip
POSITION_COLUMNS = ("symbol", "qty", "avg_px", "last_px", "age_s", "unrealized_pnl", "realized_pnl", "commission")
FILL_COLUMNS = (
    "exec_id", "time", "symbol", "side", "qty", "px", "commission", "currency", "realized_pnl", "note",
    "client_order_id",
)  # fmt: skip
_FIXED = ("px", "qty", "realized_pnl", "unrealized_pnl", "commission")
_RIGHT = (*_FIXED, "age_s")
_UNKNOWN = frozenset({"last_px", "age_s", "unrealized_pnl"})
"""Columns in which what is not known is shown as such."""
_OPEN = frozenset(state.value for state in WORKING | UNRESOLVED)
ANSWER_S_MAX = 30.0
LOOK_S = 0.1
ASK_AGAIN_NS = 5_000_000_000
"""A read that was asked of a broker that died meanwhile is answered by nobody."""


class NoAnswer(EngineAway):
    """The engine is there, or seems so, and its reconciler did not answer a person in time."""

    exit_code = 1


# ---- rows


def order_rows(settings: Settings, *, only_open: bool = False, symbol: str = "", intent: str = "") -> list[Row]:
    """Orders, oldest first. `intent`: an intent's, a signal's or an order's id. Raises NotRunning, EngineAway."""
    rows = read_projection(settings, KeyType.ORDERS).values()
    chosen = (
        row
        for row in rows
        if (not only_open or row["state"] in _OPEN)
        and (not symbol or row["symbol"] == symbol)
        and (not intent or intent in (row["intent_id"], row["signal_id"], row["client_order_id"]))
    )
    return _readable(chosen, lambda row: (int(str(row["placed_ns"])), str(row["client_order_id"])))


def cycle_rows(settings: Settings) -> list[Row]:
    """The orders of cycles, oldest first. Raises NotRunning, EngineAway."""
    return _readable(read_projection(settings, KeyType.ORDERS, "spot").values(), lambda row: str(row.get("placed_ns")))


def position_rows(settings: Settings) -> list[Row]:
    """Positions by symbol, flat ones included once they were traded. Raises NotRunning, EngineAway.

    Each has the last price that its broker heard, that price's age, and what it would realize at it before
    commissions; None where no price was ever heard.
    """
    rows = read_projection(settings, KeyType.POSITIONS).values()
    prices, now_ns = read_last_prices(Path(settings.run.run_dir)), time.time_ns()
    valued = [row | _valued(row, prices.get(str(row["symbol"])), now_ns) for row in rows]
    return _readable(valued, lambda row: str(row["symbol"]))


def _valued(row: Mapping[str, object], last: LastPrice | None, now_ns: int) -> Row:
    qty = int(str(row["qty"]))
    if last is None:
        return {"last_px": None, "age_s": None, "unrealized_pnl": None if qty else 0}
    gained = divide_half_even((last.px - int(str(row["avg_px"]))) * qty, SCALE)
    age_s = round(max(0, now_ns - last.heard_ns) / 1e9, 1)
    return {"last_px": last.px, "age_s": age_s, "unrealized_pnl": gained}


def fill_rows(settings: Settings, *, symbol: str = "", since_ns: int = 0) -> list[Row]:
    """Executions that are kept (`BrokerSettings.fills_max`), oldest first. Raises NotRunning, EngineAway."""
    rows = (
        row
        for row in read_projection(settings, KeyType.FILLS, ALL).values()
        if (not symbol or row["symbol"] == symbol) and int(str(row["ts_event_ns"])) >= since_ns
    )
    return _readable(rows, lambda row: (int(str(row["ts_event_ns"])), str(row["exec_id"])))


def _readable(rows: Iterable[Mapping[str, object]], order: Callable[[Row], object]) -> list[Row]:
    """Fixed8 as decimal text; None, which a venue left unset, stays None."""
    readable = [
        {
            name: format_fixed8(value) if isinstance(value, int) and name.endswith(_FIXED) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    return sorted(readable, key=order)  # type: ignore[arg-type]


def rows_json(rows: list[Row]) -> str:
    """As an array of objects."""
    return msgspec.json.encode(rows).decode()


def rows_text(rows: list[Row], columns: tuple[str, ...], nothing: str) -> str:
    """As an aligned table of these columns: amounts to the right, what is unset empty."""
    if not rows:
        return nothing
    shown = [[_cell(row, column) for column in columns] for row in rows]
    widths = [max(len(line[k]) for line in [list(columns), *shown]) for k in range(len(columns))]
    lines = []
    for line in [list(columns), *shown]:
        cells = (
            cell.rjust(width) if column.endswith(_RIGHT) else cell.ljust(width)
            for cell, column, width in zip(line, columns, widths, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def history_text(rows: list[Row]) -> str:
    """Each state that these orders entered, in the order of time; to the millisecond, for steps are closer than one."""
    steps = [
        (int(str(step["at_ns"])), str(row["client_order_id"]), str(step["state"]))
        for row in rows
        for step in msgspec.convert(row.get("history", []), list[dict[str, int | str]])
    ]
    return "\n".join(f"{_to_the_ms(at_ns)}  {name}  {state}" for at_ns, name, state in sorted(steps))


def _to_the_ms(at_ns: int) -> str:
    return f"{clock_text(at_ns)}.{at_ns // 1_000_000 % 1_000:03}"


def _cell(row: Row, column: str) -> str:
    if column == "time":
        return clock_text(int(str(row["ts_event_ns"])))
    if column == "note":
        return ",".join(word for word in ("corrected", "external") if row.get(word))
    value = row.get(column)
    if value is None:
        return "-" if column in _UNKNOWN else ""
    return str(value)


# ---- the reconciler


def read_reconcile(settings: Settings) -> ReconcileView:
    """What the reconciler last knew. Raises NotRunning, EngineAway (also where it never said anything)."""
    row = read_projection(settings, KeyType.RECONCILE).get("state")
    if row is None:
        raise EngineAway("the reconciler has shown nothing yet. Remedy: wait until the engine serves: run.py status")
    return msgspec.convert(row, ReconcileView)


def ask_now(settings: Settings, seconds_max: float = ANSWER_S_MAX, accept_cash: bool = False) -> ReconcileView:
    """Have everything read now; return what came of it, each new divergence confirmed or gone.

    `accept_cash`: the account's cash as it then is becomes the baseline; returns once that is so.

    While there is no session, or a read fails, it asks again, for so long; then what is there is returned.
    Raises NotRunning, EngineAway, NoAnswer.
    """
    found = read_engine_file(settings)
    if not read_status(settings).running:
        raise EngineAway(f"the engine with pid {found.pid} does not run. Remedy: start it with `make run`")
    end, first_ns, asked_ns, shown = time.monotonic() + seconds_max, time.time_ns(), 0, None
    while time.monotonic() < end:
        if time.time_ns() - asked_ns >= ASK_AGAIN_NS:
            asked_ns = time.time_ns()
            write_ask(Path(settings.run.run_dir), ReconcileNow(asked_ns, accept_cash))
        time.sleep(LOOK_S)
        row = read_projection(settings, KeyType.RECONCILE).get("state")
        shown = msgspec.convert(row, ReconcileView) if row is not None else None
        if shown is None or shown.answered_ns < first_ns or (accept_cash and shown.money.baseline_ns < first_ns):
            continue
        if shown.read_full_ns and not shown.failed and all(one.confirmed for one in shown.findings):
            return shown
    if shown is not None and shown.answered_ns >= first_ns:
        return shown
    raise NoAnswer(f"the reconciler has not answered within {seconds_max:g} s. Remedy: look at `run.py status`")


def is_equal(view: ReconcileView) -> bool:
    """Whether the last complete read of a session found both sides the same, with nothing unresolved."""
    return bool(view.session_id and view.read_full_ns) and not (view.failed or view.findings or view.absences)


def reconcile_text(view: ReconcileView) -> str:
    """The same for a person."""
    now_ns = time.time_ns()
    lines = [
        f"gate: {view.gate}",
        f"session: {view.session_id or 'none'}" + (f", account {view.account}" if view.account else ""),
        f"last read: {_ago(view.read_ns, now_ns)}; last complete read: {_ago(view.read_full_ns, now_ns)}",
    ]
    if view.failed:
        lines.append(f"the last read failed: {', '.join(view.failed)} not answered; nothing is concluded from it")
    if view.absences:
        lines.append(f"absent once, and asked again: {', '.join(view.absences)}")
    lines.append(_money_text(view.money, now_ns))
    lines.append(f"divergences: {len(view.findings) or 'none'}")
    lines += [_standing_text(one, now_ns) for one in view.findings]
    if view.cleared:
        lines.append("cleared before:")
        lines += [
            f"  {clock_text(one.cleared_ns)} {one.kind} {one.subject} since {clock_text(one.first_ns)}: {one.evidence}"
            for one in view.cleared
        ]
    return "\n".join(lines)


def _money_text(money: MoneyView, now_ns: int) -> str:
    if not money.as_of_ns:
        return f"cash: not compared: {money.not_compared}"
    text = f"cash: {format_fixed8(money.cash)} {money.currency} at the account {_ago(money.as_of_ns, now_ns)}"
    if money.expected_cash is not None:
        text += f", {format_fixed8(money.expected_cash)} by our fills since {clock_text(money.baseline_ns)}"
    text += f"; net liquidation {format_fixed8(money.net_liquidation)}"
    return text + (f"; not compared: {money.not_compared}" if money.not_compared else "")


def _standing_text(one: Standing, now_ns: int) -> str:
    words = [word for word, holds in (("seen once", not one.confirmed), ("shuts the gate", one.blocks)) if holds]
    marks = f" ({', '.join(words)})" if words else ""
    times = f"first {_ago(one.first_ns, now_ns)}, last {_ago(one.last_ns, now_ns)}, read {one.request_id}"
    return f"  {one.kind} {one.subject}{marks}: {one.evidence}; {times}"


def _ago(at_ns: int, now_ns: int) -> str:
    return f"{max(0, now_ns - at_ns) / 1e9:,.0f} s ago" if at_ns else "never"
