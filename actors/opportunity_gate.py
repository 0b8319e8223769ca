"""From exact decisions to opportunities: each told once while it stands, confirmed as it is told, and not too many.

Pure but for the image it reads. An opportunity stands from the decision that found it until a change of one of its
rows, or a look of `recheck`, finds it gone; a later one of the same cycle is another.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from actors.cycle_plan import plan_of
from actors.messages import LegUsed, OpportunityFound
from kernels.book_image import Verdict
from kernels.cycle_execution import PlannedLeg
from kernels.evaluate import Decision, LegQuote, Step
from kernels.evaluator import Evaluator
from kernels.fixed8 import format_fixed8

PER_SECOND_MAX: Final = 200
_SECOND_NS: Final = 1_000_000_000


class OpportunityGate:
    """One evaluator's. At most `PER_SECOND_MAX` are told in a second; more are counted as suppressed and not told."""

    def __init__(self, evaluator: Evaluator, prefix: str, dry_run: bool) -> None:
        """`prefix`: of the ids, unique to this incarnation."""
        self.counts = {"told": 0, "suppressed": 0, "unconfirmed": 0}
        self._evaluator = evaluator
        self._prefix = prefix
        self._dry_run = dry_run
        self._standing: dict[int, int] = {}
        self._number = 0
        self._second = 0
        self._told_in_second = 0

    @property
    def standing(self) -> int:
        """How many opportunities stand."""
        return len(self._standing)

    def find_longest(self, now_ns: int) -> tuple[tuple[str, ...], int]:
        """Return the cycle that has stood for longest, and for how long in ns; ((), 0) where none stands."""
        if not self._standing:
            return (), 0
        cycle = min(self._standing, key=self._standing.__getitem__)
        return self._evaluator.index.describe(cycle), now_ns - self._standing[cycle]

    def take(self, changed: npt.NDArray[np.int32], decisions: list[Decision], now_ns: int) -> list[OpportunityFound]:
        """Take the decisions on the cycles of the changed rows; return the opportunities that opened.

        Each leg is read once more, just before it is told: the same write, still live, or it is not told (if it
        changed, the ring brings it again).
        """
        if not decisions and not self._standing:
            return []
        found = {decision.cycle: decision for decision in decisions if decision.refusal is None}
        if self._standing:
            self._close(set(changed.tolist()), found)
        told = []
        for cycle, decision in found.items():
            if cycle in self._standing:
                continue
            if not self._confirmed(decision, now_ns):
                self.counts["unconfirmed"] += 1
                continue
            self._standing[cycle] = now_ns
            if self._may_tell(now_ns):
                told.append(self._told(decision))
        return told

    def recheck(self, now_ns: int) -> None:
        """Look at what stands: a feed that died changes no row."""
        gone = [cycle for cycle in self._standing if self._evaluator.decide(cycle, now_ns).refusal is not None]
        self._forget(gone)

    def _forget(self, gone: list[int]) -> None:
        for cycle in gone:
            del self._standing[cycle]

    def _close(self, changed: set[int], found: dict[int, Decision]) -> None:
        legs_of = self._evaluator.index.legs_of
        gone = [cycle for cycle in self._standing if cycle not in found and not changed.isdisjoint(legs_of(cycle)[0])]
        self._forget(gone)

    def _confirmed(self, decision: Decision, now_ns: int) -> bool:
        evaluator = self._evaluator
        image, silence_ns = evaluator.image, evaluator.liveness_ns_max
        rows, _ = evaluator.index.legs_of(decision.cycle)
        for row, leg, step in zip(rows, decision.legs, decision.steps, strict=True):
            age_ns_max = int(evaluator.age_ns_max[row])
            verdict, found = image.read_live_row(row, now_ns, age_ns_max, silence_ns)
            if verdict is not Verdict.LIVE or found is None or found.sequence != leg.row.sequence:
                return False
            if leg.ladder is not None and step.levels > 1:
                verdict, ladder = image.read_live_ladder(row, now_ns, age_ns_max, silence_ns)
                if verdict is not Verdict.LIVE or ladder is None or ladder.sequence != leg.ladder.sequence:
                    return False
        return True

    def _may_tell(self, now_ns: int) -> bool:
        second = now_ns // _SECOND_NS
        if second != self._second:
            self._second, self._told_in_second = second, 0
        if self._told_in_second >= PER_SECOND_MAX:
            self.counts["suppressed"] += 1
            return False
        self._told_in_second += 1
        self.counts["told"] += 1
        return True

    def _told(self, decision: Decision) -> OpportunityFound:
        self._number += 1
        legs = tuple(_used(leg, step) for leg, step in zip(decision.legs, decision.steps, strict=True))
        return OpportunityFound(
            opportunity_id=f"{self._prefix}.{self._number}",
            cycle=decision.path(),
            gross_return=decision.gross_return,
            net_return=decision.net_return,
            start_asset=decision.start_asset,
            start_amount=format_fixed8(decision.spent),
            end_amount=format_fixed8(decision.received),
            legs=legs,
            ts_event_ns=max(leg.row.received_ns for leg in decision.legs),
            dry_run=self._dry_run,
            evaluated_ns=decision.evaluated_ns,
            fee_token=decision.fee_token,
            fee_cost=format_fixed8(decision.fee_cost),
            plan=() if self._dry_run else self._plan(decision),
        )

    def _plan(self, decision: Decision) -> tuple[PlannedLeg, ...]:
        evaluator = self._evaluator
        rows, _ = evaluator.index.legs_of(decision.cycle)
        return plan_of(decision, [evaluator.index.symbols[row] for row in rows], evaluator.fees_e8[rows].tolist())


def _used(leg: LegQuote, step: Step) -> LegUsed:
    row, ladder = leg.row, leg.ladder
    return LegUsed(
        leg=f"{leg.symbol}:{leg.side}",
        bid_px=row.bid_px,
        bid_qty=row.bid_qty,
        ask_px=row.ask_px,
        ask_qty=row.ask_qty,
        sequence=row.sequence,
        venue_update_id=row.venue_update_id,
        age_ns=leg.age_ns,
        received_ns=row.received_ns,
        flags=row.flags,
        qty=step.qty,
        limit_px=step.limit_px,
        levels=step.levels,
        ladder=ladder.levels if ladder else (),
        ladder_sequence=ladder.sequence if ladder else 0,
        ladder_update_id=ladder.venue_update_id if ladder else 0,
        ladder_age_ns=ladder.age_ns if ladder else 0,
    )
