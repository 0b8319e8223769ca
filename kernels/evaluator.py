"""The evaluation of a market: changed rows in, exact decisions out. One instance is one reader, of one thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.book_image import LIVENESS_NS_MAX, NO_AGE_LIMIT, BookImage, Row, Verdict
from kernels.cycles import BUY, CycleIndex
from kernels.evaluate import Decision, LadderUsed, Refusal, Terms, decide, gross_return
from kernels.fees import FeeTable
from kernels.image_layout import NO_LADDER
from kernels.screen import Screen, kept_factors, screen_threshold

Int32s = npt.NDArray[np.int32]
StartMax = int | Mapping[str, int] | None
"""The most that a cycle puts in, in counts of its start asset: for any asset, by asset, or without a limit."""

NO_FEES: Final = FeeTable()
_UNREAD: Final = Row(0, 0, 0, 0, 0, 0, 0, 0)


class EvaluationCounters(NamedTuple):
    """Cycles since the start: evaluated, skipped for a leg's verdict, and of those evaluated, decided exactly."""

    evaluated: int
    skipped_invalid: int
    skipped_feed_dead: int
    skipped_aged: int
    skipped_busy: int
    candidates: int

    @property
    def skipped(self) -> int:
        """All that were not evaluated because a leg was not live."""
        return self.skipped_invalid + self.skipped_feed_dead + self.skipped_aged + self.skipped_busy


class Evaluator:
    """Screens the cycles that changed rows touch, then decides those that may gain, exactly.

    The screen's bound is never below a decision's net return (`kernels.screen` says why), so no opportunity is missed.
    """

    def __init__(
        self,
        index: CycleIndex,
        image: BookImage,
        *,
        fees: FeeTable = NO_FEES,
        start_max: StartMax = None,
        net_return_min: Fraction = Fraction(1),
        age_ns_max: int | npt.NDArray[np.int64] = NO_AGE_LIMIT,
        liveness_ns_max: int = LIVENESS_NS_MAX,
    ) -> None:
        """Take an index whose row numbers are the image's. `start_max`: see `StartMax`.

        `age_ns_max`: one limit, or int64 [rows] by symbol class.
        """
        if image.layout.n_rows < len(index.symbols):
            raise ValueError(f"the image has {image.layout.n_rows} rows for {len(index.symbols)} symbols")
        if not isinstance(start_max, int | None):
            missing = {index.assets[at] for at in np.unique(index.start_assets).tolist()} - start_max.keys()
            if missing:
                raise ValueError(f"no greatest start amount is given for {', '.join(sorted(missing))}")
        self.index, self.image, self.fees = index, image, fees
        self.start_max, self.net_return_min = start_max, net_return_min
        self.fees_e8 = fees.of(index.symbols)
        self.age_ns_max = np.broadcast_to(np.asarray(age_ns_max, dtype=np.int64), (len(index.symbols),)).copy()
        self.liveness_ns_max = liveness_ns_max
        self.refusals: Counter[Refusal] = Counter()
        self.screen = Screen(
            index, image, kept_factors(self.fees_e8), self.age_ns_max, liveness_ns_max, screen_threshold(net_return_min)
        )
        self._candidates = 0

    def on_rows(self, changed: Int32s, now_ns: int) -> list[Decision]:
        """Evaluate each cycle that crosses a changed row, once; return a decision for each that the screen let through.

        Those without a `refusal` are opportunities. Rows are read again for the decision, which is of what it read.
        """
        return self.decided(self.screen.rows(changed, now_ns), now_ns)

    def on_turn(self, now_ns: int) -> list[Decision]:
        """Take what the image's rings announced since the last turn, as `on_rows`; `screen.changed` then holds it."""
        return self.decided(self.screen.turn(now_ns), now_ns)

    def scan(self, now_ns: int) -> list[Decision]:
        """Evaluate every cycle: after an overrun, and at the start."""
        return self.decided(self.screen.all(now_ns), now_ns)

    def decide(self, cycle: int, now_ns: int) -> Decision:
        """Decide one cycle on its rows as they stand now."""
        rows, sides = self.index.legs_of(cycle)
        symbols = [self.index.symbols[row] for row in rows]
        read = [self._read(row, now_ns) for row in rows]
        start = self.index.start_asset(cycle)
        start_max = self.start_max if isinstance(self.start_max, int | None) else self.start_max[start]
        fees_e8 = tuple(self.fees_e8[rows].tolist())
        terms = Terms(fees_e8, start_max, self.net_return_min, self.fees.token)
        ladders = [self._ladder(row, side, now_ns) for row, side in zip(rows, sides, strict=True)]
        return decide(cycle, start, symbols, sides, read, terms, now_ns, ladders)

    def gross_returns(self, now_ns: int) -> dict[int, Fraction]:
        """Return the exact gross return of every cycle whose three legs are live."""
        read = [self._read(row, now_ns) for row in range(len(self.index.symbols))]
        usable = [verdict is Verdict.LIVE and row.bid_px > 0 and row.ask_px > 0 for verdict, row in read]
        found = {}
        for cycle in range(len(self.index)):
            rows, sides = self.index.legs_of(cycle)
            if all(usable[row] for row in rows):
                quotes = [
                    (side, read[row][1].bid_px, read[row][1].ask_px) for row, side in zip(rows, sides, strict=True)
                ]
                found[cycle] = gross_return(quotes)
        return found

    @property
    def counters(self) -> EvaluationCounters:
        """What was evaluated and what was skipped, since the start."""
        live, invalid, feed_dead, aged, busy = self.screen.tally.tolist()
        return EvaluationCounters(live, invalid, feed_dead, aged, busy, self._candidates)

    def decided(self, found: int, now_ns: int) -> list[Decision]:
        """Decide the candidates that the screen's last call found."""
        if not found:
            return []
        self._candidates += found
        decisions = [self.decide(cycle, now_ns) for cycle in self.screen.candidates(found)]
        self.refusals.update(one.refusal for one in decisions if one.refusal is not None)
        return decisions

    def _read(self, row: int, now_ns: int) -> tuple[Verdict, Row]:
        verdict, found = self.image.read_live_row(row, now_ns, int(self.age_ns_max[row]), self.liveness_ns_max)
        return verdict, found if found is not None else _UNREAD

    def _ladder(self, row: int, side: int, now_ns: int) -> LadderUsed | None:
        """Return the side of a row's ladder that a leg walks; None where there is none that is live."""
        if self.image.row_ladder[row] == NO_LADDER:
            return None
        verdict, found = self.image.read_live_ladder(row, now_ns, int(self.age_ns_max[row]), self.liveness_ns_max)
        if verdict is not Verdict.LIVE or found is None:
            return None
        levels = tuple((px, qty) for px, qty in (found.asks if side == BUY else found.bids).tolist())
        return LadderUsed(found.sequence, found.venue_update_id, now_ns - found.received_ns, levels)
