"""The stale leg's story (field note 4) as a script: sixteen minutes of market time, every frame and clock made up.

Two triangles over USDT and BTC, prices consistent but for noise, so that nothing gains after fees; a true opportunity
every forty seconds on one triangle or the other, in turn. Then one leg freezes while the others drift away from it.
Everything from the frame to the alarm is the engine's own: fold, evaluator, gate, role, and both watches; the clock is
the script's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from actors.effects import ClearAlarm, RaiseAlarm
from actors.evaluator import Evaluator as EvaluatorRole
from actors.messages import EvaluatorStatus, OpportunityFound, Recovered
from actors.opportunity_gate import OpportunityGate
from kernels.book_image import FeedWriter, RingReader
from kernels.cycles import build_index
from kernels.evaluator import Evaluator
from kernels.exchange_info import Symbol
from kernels.fees import FeeTable
from kernels.fold import FeedFold
from kernels.frames import SymbolTable
from kernels.market_watch import Counted, MarketWatch
from kernels.row_watch import RowWatch
from tests.actors.roles import step
from tests.kernels.image_cases import plain_image

S = 1_000_000_000
BEGAN_NS = 1_700_000_040 * S
MARKETS = (("BTC", "USDT"), ("ETH", "BTC"), ("ETH", "USDT"), ("BNB", "BTC"), ("BNB", "USDT"))
SYMBOLS = tuple(Symbol(base + quote, "TRADING", base, quote) for base, quote in MARKETS)
FROZEN = "ETHBTC"
LOOKS_A_SECOND = 2
TRUE_EVERY_S = 40
FEE_E8 = 100_000
THRESHOLD = Fraction(10_005, 10_000)
OVERFLOW = "99999999999999999999.00000000"

MakeFold = Callable[[FeedWriter, SymbolTable], FeedFold]


class Told(NamedTuple):
    """An opportunity, when it was told, and whether it gained at the venue's own prices of that moment."""

    ns: int
    found: OpportunityFound
    is_true: bool


class Story:
    """The market and the engine on it; `run` lets seconds pass."""

    def __init__(self, make_fold: MakeFold = FeedFold, age_ns_max: int = 5 * S, gain: float = 1.006) -> None:
        """`gain`: what a cycle gains before fees, for a second, every forty."""
        self.gain = gain
        self.garbled = False
        self.random = random.Random(4)
        self.now_ns = BEGAN_NS
        self.image = plain_image((0,) * len(SYMBOLS))
        self.writer = FeedWriter(self.image, 0, 1)
        self.fold = make_fold(self.writer, SymbolTable(SYMBOLS))
        self.ring = RingReader(self.image, 0)
        self.evaluator = Evaluator(
            build_index(SYMBOLS, "USDT"),
            self.image,
            fees=FeeTable(FEE_E8),
            start_max=1_000 * 10**8,
            net_return_min=THRESHOLD,
            age_ns_max=age_ns_max,
        )
        self.gate = OpportunityGate(self.evaluator, "e1", dry_run=True)
        self.role = EvaluatorRole()
        self.state, _ = step(self.role, self.role.initial(), Recovered(1), self.now_ns)
        self.rows, self.watch = RowWatch(self.image, self.now_ns), MarketWatch()
        self.silenced: set[str] = set()
        self.overflowing: set[str] = set()
        self.truth: dict[str, float] = {}
        self.drift_bps = 0.0
        self.drift_bps_max = 37.0
        self.frozen_ns = 0
        self.told: list[Told] = []
        self.changes = 0
        self.raised: dict[str, int] = {}
        self.alarms: set[str] = set()
        self._window = 0
        self._number = 0

    # ---- the venue

    def freeze(self, *, silence: bool) -> None:
        """One frame with a quantity that overflows; then `silence`, or every frame of that symbol so."""
        self.overflowing.add(FROZEN)
        self._speak(FROZEN)
        if silence:
            self.silenced.add(FROZEN)
            self.overflowing.clear()
        self.frozen_ns = self.now_ns

    def _move(self) -> None:
        """True prices: USDT's move in common, and from the freeze on ETHBTC falls away from where it froze."""
        if self.frozen_ns:
            self.drift_bps = min(self.drift_bps_max, (self.now_ns - self.frozen_ns) / S * 0.5)
        noise = {name: 1 + self.random.gauss(0, 1.5) / 10_000 for name in (one.name for one in SYMBOLS)}
        ethbtc = 0.06 * (1 - self.drift_bps / 10_000)
        plain = {"BTCUSDT": 50_000.0, "ETHBTC": ethbtc, "ETHUSDT": 50_000 * ethbtc, "BNBBTC": 0.01, "BNBUSDT": 500.0}
        self.truth = {name: price * noise[name] for name, price in plain.items()}
        turn, phase = divmod((self.now_ns - BEGAN_NS) // S, TRUE_EVERY_S)
        if phase == 7:  # a true one, for a second
            self.truth["BNBUSDT" if turn % 2 or self.frozen_ns else "ETHUSDT"] *= self.gain

    def _speak(self, name: str) -> None:
        self._number += 1
        price = self.truth[name]
        bid, ask = f"{price * 0.99995:.8f}", f"{price * 1.00005:.8f}"
        qty = OVERFLOW if name in self.overflowing else "50.00000000"
        bid = f"x{bid}" if self.garbled else bid
        frame = (
            f'{{"stream":"{name.lower()}@bookTicker","data":{{"u":{self._number},"s":"{name}",'
            f'"b":"{bid}","B":"{qty}","a":"{ask}","A":"{qty}"}}}}'
        )
        self.fold.apply_frame(frame.encode(), self.now_ns)

    # ---- the engine

    def run(self, seconds: int) -> None:
        """Let market time pass."""
        for _ in range(seconds * LOOKS_A_SECOND):
            self.now_ns += S // LOOKS_A_SECOND
            self.writer.beat(self.now_ns, 200_000, self.fold.counters())
            self._move()
            for symbol in SYMBOLS:
                if symbol.name not in self.silenced:
                    self._speak(symbol.name)
            self._evaluate()
            if (self.now_ns - BEGAN_NS) % S == 0:
                self._look()

    def _evaluate(self) -> None:
        changed = self.ring.drain()
        rows = np.arange(len(SYMBOLS), dtype=np.int32) if changed is None else changed
        self.changes += len(rows)
        self.gate.recheck(self.now_ns)
        for found in self.gate.take(rows, self.evaluator.on_rows(rows, self.now_ns), self.now_ns):
            self.told.append(Told(self.now_ns, found, self._gains(found)))
            self._reduce(found)

    def _reduce(self, body: OpportunityFound | EvaluatorStatus) -> None:
        self.state, effects = step(self.role, self.state, body, self.now_ns)
        for effect in effects:
            match effect:
                case RaiseAlarm(name=name):
                    self._raise(name)
                case ClearAlarm(name=name):
                    self.alarms.discard(name)

    def _look(self) -> None:
        self._reduce(EvaluatorStatus(0, 0, 0, {}, 0, 0, 0, *self.gate.find_longest(self.now_ns)))
        fold, counters = self.fold, self.evaluator.counters
        feed = {"frames": fold.frames, "parsed": fold.parsed, "quantity_capped": fold.quantity_capped}
        feed |= {f"capped.{SYMBOLS[row].name}": count for row, count in fold.capped_rows.items()}
        told = {f"opportunities.{name}": count for name, count in self.gate.counts.items()}
        evaluated = {"changes": self.changes, "evaluations": counters.evaluated, "candidates": counters.candidates}
        counted = [
            Counted("feed.spot.0", 1, feed),
            Counted("evaluator", 1, evaluated | told | {"opportunities": len(self.told)}),
        ]
        self.rows.look(self.now_ns)
        names = [symbol.name for symbol in SYMBOLS]
        standing = self.watch.take(
            self.now_ns,
            counted,
            [(names[one.row], one) for one in self.rows.find_invalid(self.now_ns, 60 * S)],
            [(names[one.row], one) for one in self.rows.find_silent(self.now_ns, 10 * S, 30)],
            [names[row] for row in self.rows.rank_busiest(20)],
        )
        window = self.now_ns // (60 * S)
        if self._window and window != self._window:
            self.rows.end_window(self.now_ns)
        self._window = window
        by_watch = {one.name for one in standing}
        for name in by_watch:
            self._raise(name)
        self.alarms = {name for name in self.alarms if name in by_watch or name in self.state.alarms} | by_watch

    def _raise(self, name: str) -> None:
        self.alarms.add(name)
        self.raised.setdefault(name, self.now_ns)

    def _gains(self, found: OpportunityFound) -> bool:
        gain = 1.0
        for leg in found.cycle:
            name, side = leg.split(":")
            gain *= 1 / (self.truth[name] * 1.00005) if side == "BUY" else self.truth[name] * 0.99995
            gain *= 1 - FEE_E8 / 10**8
        return gain > 1
