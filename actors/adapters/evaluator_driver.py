"""The evaluator's driver: sleeps on the wake socket, drains the feeds' rings, evaluates, tells.

Told to spin, it does not sleep: it looks at the rings without a pause, and at its loop's other work every SPIN_NS.

In a thread of its own rather than in the actor's loop: a turn of the actor system's loop costs more than the
evaluation it would start. Commands: `StartEvaluator`. Events: `EvaluatorReady`, `OpportunityFound` (at most 200 a
second), `EvaluatorStatus` about once a second, `IncidentRecorded` where the reference disagrees (at most 10 a
sample). A turn is bounded; what is left starts another. After an overrun of a
ring every row of its feed is looked at. Every row is looked at at the start, and at a tick after cycles were skipped
because a feed was not live, or when a feed came to live: what changed meanwhile is announced no second time.
"""

from __future__ import annotations

import asyncio
from fractions import Fraction
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from actors.adapters.driver_thread import DriverThread
from actors.adapters.feed_driver import ImageLost, wait_for_image
from actors.adapters.image_file import MappedImage
from actors.adapters.pinning import pin_thread
from actors.adapters.wake import WakeReceiver
from actors.age_limits import AgeClasses, age_limits_ns
from actors.messages import AnyMessage, EvaluatorReady, EvaluatorStatus, IncidentRecorded, StartEvaluator
from actors.opportunity_gate import OpportunityGate
from actors.ports import Clock
from kernels.book_image import BookImage
from kernels.cycles import CYCLES_MAX, build_index
from kernels.evaluate import Decision
from kernels.evaluator import NO_FEES, Evaluator, StartMax
from kernels.fees import FeeTable
from kernels.latency_histogram import FRAME_TO_DECISION, FRAME_TO_TOLD, new_histogram, record, to_sparse
from kernels.reference_check import ReferenceCheck
from kernels.row_tally import tally_rows

STATUS_S: Final = 1.0
TICKS_A_STATUS: Final = 4
REFERENCE_STEP_S: Final = 0.005
"""Between two cycles of the reference, which take a third of a millisecond each."""
INCIDENTS_A_SAMPLE_MAX: Final = 10
SPIN_NS: Final = 1_000_000


class EvaluatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`starts`: as `build_index` takes them, None for any; `start_max` in counts of 1e-8."""

    role: str
    run_dir: str
    starts: tuple[str, ...] | None = ("USDT",)
    cycle_lengths: tuple[int, ...] = (3,)
    cycles_max: int = CYCLES_MAX
    fees: FeeTable = NO_FEES
    net_return_min: Fraction = Fraction(1)
    start_max: StartMax = None
    age_ms_max: int = 5_000
    age_classes: AgeClasses = ()
    header_stale_ms: int = 250
    dry_run: bool = True
    reference_every_s: float = 0.0
    spin: bool = False
    cpu: int | None = None


class EvaluatorDriver(DriverThread):
    """`HostedDriver`; see the module."""

    def __init__(self, options: EvaluatorOptions, clock: Clock) -> None:
        super().__init__(options.role)
        self._options, self._clock = options, clock
        self._run_dir = Path(options.run_dir)
        self._wake: WakeReceiver | None = None
        self._mapped: MappedImage | None = None
        self._evaluator: Evaluator
        self._gate: OpportunityGate
        self._ages: npt.NDArray[np.int64]
        self._changes = 0
        self._wakes = 0
        self._more = False
        self._lives: list[bool] = []
        self._deferred_seen = 0
        self._rescans = 0
        self._told, self._decided = new_histogram(), new_histogram()
        self._overruns = 0
        self._spins = 0

    @property
    def latencies(self) -> dict[str, dict[str, int]]:
        """From a frame's receipt to the decision on its row; from the one that opened an opportunity to its word."""
        return {FRAME_TO_DECISION: to_sparse(self._decided), FRAME_TO_TOLD: to_sparse(self._told)}

    @property
    def counters(self) -> dict[str, int]:
        """What this thread counted, for the health board."""
        return dict(self.worker.progress)

    # ---- on the loop

    def handle(self, command: AnyMessage) -> None:
        """Take `StartEvaluator`, once."""
        assert isinstance(command, StartEvaluator), f"an evaluator takes no {type(command).__name__}"
        assert self._mapped is None, "started twice"
        self.worker.spawn(self._run(command.epoch), "evaluator")

    async def _run(self, epoch: int) -> None:
        pin_thread(self._options.cpu)
        mapped = self._mapped = await wait_for_image(self._run_dir, writable=False)
        options, image = self._options, mapped.image
        index = build_index(mapped.record.symbols, options.starts, options.cycle_lengths, options.cycles_max)
        names = [symbol.name for symbol in mapped.record.symbols]
        self._ages = age_limits_ns(names, options.age_ms_max, options.age_classes)
        self._evaluator = Evaluator(
            index,
            image,
            fees=options.fees,
            start_max=options.start_max,
            net_return_min=options.net_return_min,
            age_ns_max=self._ages,
            liveness_ns_max=options.header_stale_ms * 1_000_000,
        )
        self._decided = self._evaluator.screen.latency
        self._gate = OpportunityGate(self._evaluator, f"{options.role}:e{epoch}", options.dry_run)
        if not options.spin:
            self._wake = WakeReceiver(self._run_dir)
        self._scan()
        self.worker.emit(EvaluatorReady(mapped.record.image_id, len(index.symbols), len(index)))
        if self._wake is not None:
            asyncio.get_running_loop().add_reader(self._wake.fileno(), self._woken)
        else:
            self.worker.spawn(self._spin(), "evaluator.spin")
        if options.reference_every_s:
            self.worker.spawn(self._check(options.reference_every_s), "reference")
        while True:
            for _ in range(TICKS_A_STATUS):
                await asyncio.sleep(STATUS_S / TICKS_A_STATUS)
                self._turn()
                self._look_again(image)
                self._gate.recheck(self._clock.now_ns())
            self._report(mapped)

    async def _check(self, every_s: float) -> None:
        """Give copies of the image to evaluator and reference both, a step at a time between what is more urgent."""
        check = ReferenceCheck(self._evaluator, self._options.starts, self._options.cycle_lengths)
        while True:
            told = 0
            for found in check.sample(self._clock.now_ns()):
                if found is not None and told < INCIDENTS_A_SAMPLE_MAX:
                    told += 1
                    evidence = msgspec.json.encode(found).decode()
                    self.worker.emit(IncidentRecorded("reference_disagrees", " ".join(found.path), evidence))
                self.worker.progress |= check.counts
                await asyncio.sleep(REFERENCE_STEP_S)
            await asyncio.sleep(every_s)

    def ended(self) -> None:
        """Close the socket."""
        if self._wake is not None:
            asyncio.get_running_loop().remove_reader(self._wake.fileno())
            self._wake.close()

    def _woken(self) -> None:
        assert self._wake is not None
        self._wakes += 1
        # First the wakes, then the rings: a wake that comes after is of what the drain may have missed.
        self._wake.clear()
        self._turn()

    async def _spin(self) -> None:
        while True:
            until_ns = self._clock.now_ns() + SPIN_NS
            while self._clock.now_ns() < until_ns:
                self._turn()
            self._spins += 1
            await asyncio.sleep(0)

    def _turn(self) -> None:
        """Take what the rings announced, decide, tell."""
        evaluator, screen = self._evaluator, self._evaluator.screen
        decisions = evaluator.on_turn(self._clock.now_ns())
        changed = screen.changed
        if len(changed):
            self._changes += len(changed)
            self._tell(changed, decisions)
            screen.record(self._clock.now_ns())
        for feed in screen.overrun:
            self._overruns += 1
            self._evaluate(evaluator.image.announced_by(feed))
        if screen.is_more and not self._more and self._wake is not None:
            self._more = True
            asyncio.get_running_loop().call_soon(self._again)

    def _again(self) -> None:
        self._more = False
        self._turn()

    def _look_again(self, image: BookImage) -> None:
        now_ns, stale_ns = self._clock.now_ns(), self._options.header_stale_ms * 1_000_000
        headers = [image.read_header(feed) for feed in range(image.layout.n_feeds)]
        lives = [header.up and abs(now_ns - header.live_ns) <= stale_ns for header in headers]
        if any(lives) and (lives != self._lives or self._deferred() != self._deferred_seen):
            self._rescans += 1
            self._scan()
        self._lives, self._deferred_seen = lives, self._deferred()

    def _deferred(self) -> int:
        """Return how much was passed over for what may be mended without a row changing."""
        counters = self._evaluator.counters
        return counters.skipped_feed_dead + counters.skipped_busy + self._gate.counts["unconfirmed"]

    def _scan(self) -> None:
        self._evaluate(np.arange(len(self._evaluator.index.symbols), dtype=np.int32))

    def _evaluate(self, changed: npt.NDArray[np.int32]) -> None:
        now_ns = self._clock.now_ns()
        self._tell(changed, self._evaluator.on_rows(changed, now_ns))

    def _tell(self, changed: npt.NDArray[np.int32], decisions: list[Decision]) -> None:
        for found in self._gate.take(changed, decisions, self._clock.now_ns()):
            self.worker.emit(found)
            record(self._told, self._clock.now_ns() - found.ts_event_ns)

    def _report(self, mapped: MappedImage) -> None:
        if not mapped.is_current():
            raise ImageLost(f"{self._options.role}: the book image was replaced; a successor maps the new one")
        counters, options = self._evaluator.counters, self._options
        tally = tally_rows(mapped.image, self._clock.now_ns(), self._ages, options.header_stale_ms * 1_000_000)
        skipped = {
            "invalid": counters.skipped_invalid,
            "feed_dead": counters.skipped_feed_dead,
            "aged": counters.skipped_aged,
            "busy": counters.skipped_busy,
        }
        longest_cycle, longest_ns = self._gate.find_longest(self._clock.now_ns())
        status = EvaluatorStatus(
            changes=self._changes,
            evaluations=counters.evaluated,
            candidates=counters.candidates,
            skipped=skipped,
            overruns=self._overruns,
            rows_valid=tally.live,
            rows_invalid=tally.not_live,
            longest_cycle=longest_cycle,
            longest_ns=longest_ns,
        )
        progress = self.worker.progress
        progress |= {"changes": status.changes, "evaluations": status.evaluations, "candidates": status.candidates}
        progress |= {f"skipped.{name}": count for name, count in skipped.items()}
        progress |= {f"refused.{reason.value}": count for reason, count in self._evaluator.refusals.items()}
        progress |= {f"opportunities.{name}": count for name, count in self._gate.counts.items()}
        progress |= {
            "overruns": self._overruns,
            "wakes": self._wakes,
            "spins": self._spins,
            "rescans": self._rescans,
            "standing": self._gate.standing,
        }
        progress |= {"rows_valid": tally.live, "rows_invalid": tally.not_live}
        self.worker.emit(status, key="status")
