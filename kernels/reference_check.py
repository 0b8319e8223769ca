"""The evaluator against the reference, both on one copy of the image, a cycle at a time so that nothing waits for it.

A sample: the image is copied, the evaluator's own code screens and decides every cycle of the copy, and the reference
answers for each that was decided and for a stretch of all cycles there are, which goes on where the last sample ended.
Every cycle that the reference calls an opportunity must have been decided, and every decision must be the reference's
to the last count. When all cycles have been walked their number is compared too.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from kernels.book_image import Row, Verdict
from kernels.cycles import SIDE_NAMES
from kernels.evaluate import Decision
from kernels.evaluator import Evaluator
from kernels.image_copy import ImageCopy
from kernels.reference import Answer, Depth, Hop, Reference

DECISIONS_MAX: Final = 500
"""Decisions of one sample that are compared; what is beyond is counted as unchecked."""

STRETCH: Final = 300
"""Cycles of one sample beside those that were decided."""


class Disagreement(enum.StrEnum):
    """How the two differ."""

    MISSED = "missed"
    """The reference has an opportunity that was not even decided."""
    DIFFERS = "differs"
    """Decided, with another outcome or another amount."""
    CYCLES = "cycles"
    """The index holds another number of cycles than there are."""


class Mismatch(msgspec.Struct, frozen=True):
    """One disagreement, with what it was found on. `rows`, `depths`: a leg each, as the reference got them."""

    kind: Disagreement
    path: tuple[str, ...]
    now_ns: int
    rows: tuple[Row | None, ...] = ()
    depths: tuple[Depth | None, ...] = ()
    decision: Decision | None = None
    answer: Answer | None = None
    counted: tuple[int, int] = (0, 0)


class ReferenceCheck:
    """One evaluator's. `checked`: cycles compared; `mismatched`: those that differ; `unchecked`: see DECISIONS_MAX."""

    def __init__(self, evaluator: Evaluator, starts: Sequence[str] | None, lengths: Sequence[int]) -> None:
        """`starts`, `lengths`: as the evaluator's index was built with."""
        self.samples = self.checked = self.mismatched = self.unchecked = 0
        self._copy = ImageCopy(evaluator.image)
        self._twin = Evaluator(
            evaluator.index,
            self._copy.image,
            fees=evaluator.fees,
            start_max=evaluator.start_max,
            net_return_min=evaluator.net_return_min,
            age_ns_max=evaluator.age_ns_max,
            liveness_ns_max=evaluator.liveness_ns_max,
        )
        self._reference = Reference(
            evaluator.index.symbols,
            starts=starts,
            lengths=lengths,
            fees=evaluator.fees,
            start_max=evaluator.start_max,
            net_return_min=evaluator.net_return_min,
        )
        self._walks = self._reference.walks()
        self._walked = 0

    def sample(self, now_ns: int, stretch: int = STRETCH) -> Iterator[Mismatch | None]:
        """Copy the image as of now and compare, a step at a time: at most one cycle's arithmetic between two yields.

        Nothing else may use this object before the iterator is exhausted.
        """
        self.samples += 1
        self._copy.refresh()
        decisions = {one.path(): one for one in self._twin.scan(now_ns)}
        yield None
        self.unchecked += max(0, len(decisions) - DECISIONS_MAX)
        for path, decision in list(decisions.items())[:DECISIONS_MAX]:
            legs = self._twin.index.legs_of(decision.cycle)
            hops = tuple((row, SIDE_NAMES[side]) for row, side in zip(*legs, strict=True))
            yield self._compared(hops, path, decision, now_ns)
        for _ in range(stretch):
            found = next(self._walks, ())
            if found == ():
                yield self._walked_all(now_ns)
                return
            if found:
                self._walked += 1
                path = self._reference.path(found)
                yield self._compared(found, path, decisions.get(path), now_ns)
            else:
                yield None

    @property
    def counts(self) -> dict[str, int]:
        """What was counted, by the names that the health board has it under."""
        return {
            "reference.samples": self.samples,
            "reference.checked": self.checked,
            "reference.mismatched": self.mismatched,
            "reference.unchecked": self.unchecked,
        }

    def _walked_all(self, now_ns: int) -> Mismatch | None:
        walked, self._walked, self._walks = self._walked, 0, self._reference.walks()
        if walked == len(self._twin.index):
            return None
        self.mismatched += 1
        return Mismatch(Disagreement.CYCLES, (), now_ns, counted=(len(self._twin.index), walked))

    def _compared(
        self, hops: Sequence[Hop], path: tuple[str, ...], decision: Decision | None, now_ns: int
    ) -> Mismatch | None:
        self.checked += 1
        rows = tuple(self._row(row, now_ns) for row, _ in hops)
        depths = tuple(self._depth(row, side, now_ns) for row, side in hops)
        answer = self._reference.answer(hops, rows, depths)
        if decision is None:
            kind = None if answer.refusal else Disagreement.MISSED
        else:
            kind = None if answer_of(decision) == answer else Disagreement.DIFFERS
        if kind is None:
            return None
        self.mismatched += 1
        return Mismatch(kind, path, now_ns, rows, depths, decision, answer)

    def _row(self, row: int, now_ns: int) -> Row | None:
        twin = self._twin
        verdict, found = twin.image.read_live_row(row, now_ns, int(twin.age_ns_max[row]), twin.liveness_ns_max)
        return found if verdict is Verdict.LIVE else None

    def _depth(self, row: int, side: str, now_ns: int) -> Depth | None:
        twin = self._twin
        verdict, found = twin.image.read_live_ladder(row, now_ns, int(twin.age_ns_max[row]), twin.liveness_ns_max)
        if verdict is not Verdict.LIVE or found is None:
            return None
        levels = (found.asks if side == "BUY" else found.bids).tolist()
        return Depth(tuple((px, qty) for px, qty in levels), found.venue_update_id)


def answer_of(decision: Decision) -> Answer:
    """Return a decision in the reference's form."""
    return Answer(
        refusal=decision.refusal.value if decision.refusal else "",
        gross_return=decision.gross_return,
        net_return=decision.net_return,
        spent=decision.spent,
        received=decision.received,
        fee_cost=decision.fee_cost,
        steps=tuple(
            (one.limit_px, one.qty, one.spent, one.fee, one.received, one.residual, one.levels)
            for one in decision.steps
        ),
    )
