"""The opportunities of a run, read back from `lines/opportunities.jsonl`: by cycle, over time.

Lines that cannot be read (the last one, cut off by a death; a foreign one) are counted and left out. The files are
bounded (`run.lines_mb_max`, twice), and so is what is kept of them: a time and a cycle's number a line.
"""

from __future__ import annotations

import datetime
import re
import time
from array import array
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec

from config.schema import Settings

_S_NS = 1_000_000_000
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class BadSince(ValueError):
    """`--since` is neither a time nor a span."""

    exit_code = 64


class NoRunDirectory(LookupError):
    """There is no such run directory."""

    exit_code = 69


class _Line(msgspec.Struct, frozen=True, gc=False):
    """What is read of a line."""

    cycle: tuple[str, ...]
    net_return: str
    start_asset: str
    start_amount: Decimal
    end_amount: Decimal
    ts_event_ns: int


class CycleRow(msgspec.Struct, frozen=True):
    """One cycle's opportunities. `gain`: the sum of what each would have gained, in the start asset."""

    cycle: str
    count: int
    share_percent: float
    first_ns: int
    last_ns: int
    best_net_return: str
    start_asset: str
    gain: str


class OpportunityTable(msgspec.Struct, frozen=True):
    """All cycles, most first. `unreadable`: lines that were left out."""

    opportunities: int
    unreadable: int
    since_ns: int
    cycles: tuple[CycleRow, ...]


class _Tally:
    """One cycle's, in the making."""

    __slots__ = ("best", "count", "first_ns", "gain", "last_ns", "start_asset")

    def __init__(self, line: _Line) -> None:
        self.count = 0
        self.first_ns = self.last_ns = line.ts_event_ns
        self.best = line.net_return
        self.gain = Decimal(0)
        self.start_asset = line.start_asset

    def add(self, line: _Line) -> None:
        """Take one."""
        self.count += 1
        self.first_ns = min(self.first_ns, line.ts_event_ns)
        self.last_ns = max(self.last_ns, line.ts_event_ns)
        if Decimal(line.net_return) > Decimal(self.best):
            self.best = line.net_return
        self.gain += line.end_amount - line.start_amount


class Opportunities:
    """What a run's lines hold: `times_ns` and `numbers` (of `names`) a line, in the order of the files."""

    def __init__(self) -> None:
        self.times_ns = array("q")
        self.numbers = array("i")
        self.names: list[str] = []
        self.unreadable = 0
        self.since_ns = 0
        self._number_of: dict[str, int] = {}
        self._tallies: list[_Tally] = []

    def table(self) -> OpportunityTable:
        """Sum them up by cycle, the most frequent first."""
        total = max(1, len(self.times_ns))
        rows = [
            CycleRow(
                cycle=name,
                count=tally.count,
                share_percent=round(100 * tally.count / total, 1),
                first_ns=tally.first_ns,
                last_ns=tally.last_ns,
                best_net_return=tally.best,
                start_asset=tally.start_asset,
                gain=f"{tally.gain:f}",
            )
            for name, tally in zip(self.names, self._tallies, strict=True)
        ]
        rows.sort(key=lambda row: (-row.count, row.cycle))
        return OpportunityTable(len(self.times_ns), self.unreadable, self.since_ns, tuple(rows))

    def add(self, line: _Line) -> None:
        """Take one."""
        name = " ".join(line.cycle)
        number = self._number_of.get(name)
        if number is None:
            number = self._number_of[name] = len(self.names)
            self.names.append(name)
            self._tallies.append(_Tally(line))
        self._tallies[number].add(line)
        self.times_ns.append(line.ts_event_ns)
        self.numbers.append(number)


def read_opportunities(settings: Settings, since: str | None = None) -> Opportunities:
    """Read a run's lines, of a running engine or one that ended; none is no error. Raises NoRunDirectory, BadSince."""
    run_dir = Path(settings.run.run_dir)
    if not run_dir.is_dir():
        raise NoRunDirectory(
            f"no engine has run in {run_dir.resolve()}. "
            "Remedy: start one with `make run`, or name its directory with --set run.run_dir=…"
        )
    found = Opportunities()
    found.since_ns = parse_since(since, time.time_ns()) if since else 0
    decode = msgspec.json.Decoder(_Line).decode
    for text in _lines(run_dir / "lines" / "opportunities.jsonl"):
        try:
            line = decode(text)
        except (msgspec.DecodeError, ValueError):
            found.unreadable += 1
            continue
        if line.ts_event_ns >= found.since_ns:
            found.add(line)
    return found


def _lines(path: Path) -> Iterator[bytes]:
    """The file before the present one, then that one; a rotation between the two costs lines, never a fault."""
    for one in (path.with_name(path.name + ".1"), path):
        try:
            file = one.open("rb")
        except FileNotFoundError:
            continue
        with file:
            yield from file


def parse_since(text: str, now_ns: int) -> int:
    """Return a time in ns: `90s`, `15m`, `2h`, `1d` before now, or an ISO time (UTC where it has no zone).

    Raises BadSince.
    """
    span = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if span:
        return now_ns - int(span[1]) * _UNITS_S[span[2]] * _S_NS
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise BadSince(
            f"--since is {text!r}; right would be a span (90s, 15m, 2h, 1d) or a time (2024-08-08T12:00:00)"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * _S_NS)


def clock_text(ns: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time in UTC."""
    moment = datetime.datetime.fromtimestamp(ns // _S_NS, datetime.UTC)
    return moment.strftime(form)


def table_text(table: OpportunityTable, rows_max: int) -> str:
    """The table for a person: at most `rows_max` cycles, what the others come to in a last line."""
    if not table.cycles:
        return "no opportunities" + (
            f" ({table.unreadable} unreadable lines were left out)" if table.unreadable else ""
        )
    shown, rest = table.cycles[:rows_max], table.cycles[rows_max:]
    head = ("count", "share", "best net", "gain", "last (UTC)", "cycle")
    cells = [
        (str(row.count), f"{row.share_percent:.1f} %", row.best_net_return[:10],
         f"{Decimal(row.gain):.2f} {row.start_asset}", clock_text(row.last_ns), row.cycle)
        for row in shown
    ]  # fmt: skip
    widths = [max(len(line[at]) for line in (head, *cells)) for at in range(5)]
    lines = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(line[:5], widths, strict=True)), line[5]])
        for line in (head, *cells)
    ]
    first_ns, last_ns = min(row.first_ns for row in table.cycles), max(row.last_ns for row in table.cycles)
    total = f"{table.opportunities} opportunities on {len(table.cycles)} cycles"
    lines.insert(0, f"{total}, {clock_text(first_ns)} to {clock_text(last_ns)} UTC")
    if rest:
        lines.append(f"and {sum(row.count for row in rest)} on {len(rest)} other cycles")
    if table.unreadable:
        lines.append(f"{table.unreadable} unreadable lines were left out")
    return "\n".join(lines)
