"""What an engine found of the opportunities there were: its lines against the exchange's own ledger.

A line of the engine is true where its cycle is the ledger's, begun at whichever leg, and the row that it used of the
moved symbol carries an update id of the time in which the opportunity stood. Nothing is decided by clocks.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import msgspec

from venues.exchange.market import UNIT
from venues.exchange.state import OpportunityRecord

EXIT_OK: Final = 0
EXIT_NOT_ALL: Final = 1
EXIT_NO_INPUT: Final = 66  # EX_NOINPUT
_NAMED_MAX: Final = 100


class LegSeen(msgspec.Struct, frozen=True):
    """A leg `SYMBOL:SIDE` as the engine saw it; prices Fixed8."""

    leg: str
    bid_px: int
    ask_px: int
    venue_update_id: int


class FoundLine(msgspec.Struct, frozen=True):
    """What is read of a line of the engine's opportunities.jsonl; other fields pass by."""

    opportunity_id: str
    legs: tuple[LegSeen, ...]


class Score(msgspec.Struct, frozen=True):
    """The counts. `found + missed + short + unsettled` are the ledger's, the rest are the engine's lines.

    `short`: not found, and stood less than `stood_ms_min`; `unsettled`: not found, and still standing or interrupted by
    the exchange's death. `found_lines` are true; more than one may tell of one opportunity. `mispriced` of them did not
    return what the ledger says: another leg was stale. `longer_lines` run through a moved symbol with more
    than three legs.
    The names of at most 100 missed and false ones are listed.
    """

    opportunities: int
    found: int
    missed: int
    short: int
    unsettled: int
    lines: int
    found_lines: int
    longer_lines: int
    false_lines: int
    mispriced: int
    stood_ms_min: float
    missed_ids: list[int]
    false_ids: list[str]


def score(
    ledger: Iterable[OpportunityRecord],
    lines: Iterable[FoundLine],
    stood_ms_min: float = 0.0,
    since_ns: int = 0,
    until_ns: int = 2**63,
) -> Score:
    """Return the counts over those opportunities that opened from `since_ns` to before `until_ns`.

    Of several records with an id the last counts. A line that tells of an opportunity outside these times is true, and
    finds nothing.
    """
    records = {record.id: record for record in ledger}
    moved: dict[str, list[OpportunityRecord]] = defaultdict(list)
    for record in records.values():
        moved[record.symbol].append(record)
    found: set[int] = set()
    counts = {"lines": 0, "found": 0, "longer": 0, "false": 0, "mispriced": 0}
    false_ids: list[str] = []
    for line in lines:
        counts["lines"] += 1
        told = _told_of(line, moved)
        if told is None:
            counts["false"] += 1
            false_ids.append(line.opportunity_id)
        elif len(line.legs) > len(told.cycle):
            counts["longer"] += 1
        else:
            counts["found"] += 1
            counts["mispriced"] += _gross_return(line) != Fraction(told.gross_return_exact)
            found.add(told.id)
    asked = [record for record in records.values() if since_ns <= record.opened_ns < until_ns]
    left = [record for record in asked if record.id not in found]
    closed = [record for record in left if record.state == "closed"]
    missed = [record.id for record in closed if record.closed_ns - record.opened_ns >= stood_ms_min * 1e6]
    return Score(
        opportunities=len(asked),
        found=len(asked) - len(left),
        missed=len(missed),
        short=len(closed) - len(missed),
        unsettled=len(left) - len(closed),
        lines=counts["lines"],
        found_lines=counts["found"],
        longer_lines=counts["longer"],
        false_lines=counts["false"],
        mispriced=counts["mispriced"],
        stood_ms_min=stood_ms_min,
        missed_ids=missed[:_NAMED_MAX],
        false_ids=false_ids[:_NAMED_MAX],
    )


def read_ledger(path: Path) -> Iterator[OpportunityRecord]:
    """Yield a ledger's records, of the file before it too where that is there. A torn last line is passed over."""
    for one in (path.with_name("opportunities.old.jsonl"), path):
        if one.exists() or one == path:
            for line in _whole_lines(one):
                yield msgspec.json.decode(line, type=OpportunityRecord)


def read_lines(paths: Iterable[Path]) -> Iterator[FoundLine]:
    """Yield the opportunities of an engine's files. A torn last line is passed over."""
    for path in paths:
        for line in _whole_lines(path):
            yield msgspec.json.decode(line, type=FoundLine)


def main(arguments: list[str]) -> int:
    """Print the score of a ledger and an engine's lines as JSON; 0 for nothing missed or false, 1 else, 66 unread."""
    parser = argparse.ArgumentParser(
        prog="exchange score", description="Count what an engine found, missed and imagined; 1 if it did not find all."
    )
    parser.add_argument("ledger", type=Path, metavar="LEDGER", help="STATE/opportunities.jsonl of the exchange")
    parser.add_argument("lines", type=Path, nargs="+", metavar="LINES", help="opportunities.jsonl of the engine")
    parser.add_argument("--stood-ms", type=float, default=0.0, help="missed only if it stood at least so long")
    parser.add_argument("--since-ns", type=int, default=0, help="only those that opened from then on")
    parser.add_argument("--until-ns", type=int, default=2**63, help="only those that opened before")
    given = parser.parse_args(arguments)
    try:
        counted = score(
            read_ledger(given.ledger), read_lines(given.lines), given.stood_ms, given.since_ns, given.until_ns
        )
    except (OSError, msgspec.DecodeError) as error:
        print(f"exchange score: {error}; give the exchange's ledger first, then the engine's lines", file=sys.stderr)
        return EXIT_NO_INPUT
    print(msgspec.json.format(msgspec.json.encode(counted)).decode())
    return EXIT_NOT_ALL if counted.missed or counted.false_lines else EXIT_OK


def _told_of(line: FoundLine, moved: dict[str, list[OpportunityRecord]]) -> OpportunityRecord | None:
    """Return the record that a line tells of: its moved leg seen while it stood, and its cycle or a longer one."""
    for seen in line.legs:
        for record in moved.get(seen.leg.partition(":")[0], ()):
            stood = record.opened_update_id <= seen.venue_update_id < (record.closed_update_id or 2**63)
            if (
                stood
                and seen.leg in record.cycle
                and (
                    len(line.legs) > len(record.cycle)
                    or _turned([leg.leg for leg in line.legs]) == _turned(record.cycle)
                )
            ):
                return record
    return None


def _turned(cycle: list[str]) -> list[str]:
    least = cycle.index(min(cycle))
    return cycle[least:] + cycle[:least]


def _gross_return(line: FoundLine) -> Fraction:
    product = Fraction(1)
    for seen in line.legs:
        product *= Fraction(UNIT, seen.ask_px) if seen.leg.endswith(":BUY") else Fraction(seen.bid_px, UNIT)
    return product


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line
