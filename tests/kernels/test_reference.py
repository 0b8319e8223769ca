"""The evaluator and the reference agree to the last count on any market, and a planted bug is seen."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from kernels import cycle_size, evaluate, leg
from kernels.book_image import BookImage, FeedWriter, RowStatus, Verdict, format_image, layout
from kernels.cycles import UnknownStart, build_index
from kernels.evaluator import Evaluator
from kernels.exchange_info import Symbol
from kernels.fees import FeeTable
from kernels.fixed8 import COUNT_MAX, SCALE
from kernels.image_copy import ImageCopy
from kernels.reference import Reference
from kernels.reference_check import Disagreement, Mismatch, ReferenceCheck, answer_of

NOW_NS = 10**15
ASSETS = ("BNB", "BTC", "ETH", "EUR", "USDT")
LEVELS = 5


class World:
    """A small universe drawn from a seed: markets with odd filters, prices from fair to absurd, ladders on some."""

    def __init__(self, seed: int, fair: bool | None = None) -> None:
        chance = self.chance = random.Random(seed)
        self.fair = chance.random() < 0.7 if fair is None else fair
        self.worth = {asset: 10 ** chance.uniform(-3, 4) for asset in ASSETS}
        pairs = [(base, quote) for base in ASSETS for quote in ASSETS if base != quote and chance.random() < 0.45]
        pairs = pairs or [("BTC", "USDT")]
        self.symbols = [self._symbol(base, quote, number) for number, (base, quote) in enumerate(pairs)]
        self.deep = [row for row in range(len(pairs)) if chance.random() < 0.5]
        rows = len(pairs)
        parts = layout(rows, 2, 8, n_ladders=len(self.deep), ladder_levels=LEVELS if self.deep else 0)
        self.image = format_image(
            bytearray(parts.n_bytes), [0] * rows, 2, 8,
            ladders=[(row, 1) for row in self.deep], ladder_levels=LEVELS if self.deep else 0,
        )  # fmt: skip
        self.writer, self.depth = FeedWriter(self.image, 0, 1), FeedWriter(self.image, 1, 1)
        self.writer.beat(NOW_NS)
        self.depth.beat(NOW_NS)
        for row in range(rows):
            self.quote(row)

    def _symbol(self, base: str, quote: str, number: int) -> Symbol:
        chance = self.chance
        status = "TRADING" if chance.random() < 0.95 else "BREAK"
        limits = {
            "min_qty": chance.choice([1, 10**4, SCALE]),
            "max_qty": chance.choice([COUNT_MAX, COUNT_MAX, 10**10]),
            "min_notional": chance.choice([0, 10**6, 10 * SCALE]),
        }
        tick, lot = chance.choice([1, 100, 10**4]), chance.choice([1, 1000, 10**5, 7])
        return Symbol(f"{base}{quote}{number}", status, base, quote, tick, lot, **limits)

    def price(self, row: int) -> int:
        if not self.fair and self.chance.random() < 0.5:
            return self.chance.choice([1, 2, COUNT_MAX, 2**53 + 1, self.chance.randrange(1, 2**62)])
        symbol = self.symbols[row]
        fair = self.worth[symbol.base] / self.worth[symbol.quote] * self.chance.uniform(0.99, 1.01)
        return max(1, int(fair * SCALE))

    def qty(self) -> int:
        if not self.fair and self.chance.random() < 0.3:
            return self.chance.choice([0, 1, COUNT_MAX, 999_999_999_999_999_999])
        return int(10 ** self.chance.uniform(3, 12))

    def quote(self, row: int) -> None:
        chance, bid = self.chance, self.price(row)
        ask = min(COUNT_MAX, bid + chance.randrange(0, max(2, bid // 500)) + 1)
        update_id = chance.randrange(5, 9)
        state = chance.random()
        if state < 0.03:
            self.writer.mark_invalid(row, RowStatus.CROSSED)
        elif state < 0.06:
            self.writer.write_row(row, 0, 0, ask, self.qty(), update_id, NOW_NS - 5)
        else:
            age_ns = 2_000 if state < 0.09 else 5
            self.writer.write_row(row, bid, self.qty(), ask, self.qty(), update_id, NOW_NS - age_ns)
        if row in self.deep:
            self._ladder(row, bid, ask)

    def _ladder(self, row: int, bid: int, ask: int) -> None:
        chance, sides = self.chance, []
        for px, sign in ((bid, -1), (ask, 1)):
            step = max(1, px // 2_000)
            first = px + sign * step * chance.choice([-1, 0, 0, 1])
            count = chance.randrange(0, LEVELS + 1)
            prices = [first + sign * step * at for at in range(count)]
            levels = [(one, 1 + self.qty() % 2**62) for one in prices if 0 < one <= COUNT_MAX]
            sides.append(np.array(levels, dtype=np.int64).reshape(-1, 2))
        status = RowStatus.VALID if chance.random() < 0.95 else RowStatus.GAP
        self.depth.write_ladder(row, sides[0], sides[1], chance.randrange(5, 9), NOW_NS - 5, status)

    def terms(self) -> dict[str, Any]:
        chance = self.chance
        by_symbol = tuple(
            (one.name, chance.choice([0, 75_000, 10**6])) for one in self.symbols if chance.random() < 0.3
        )
        patterns = (("B*", 50_000), ("*USDT*", 20_000)) if chance.random() < 0.3 else ()
        token = chance.choice(["", "", "BNB"])
        start_max = chance.choice([None, 10**9, 10**12, {asset: 10 ** chance.randrange(4, 14) for asset in ASSETS}])
        return {
            "fees": FeeTable(100_000, patterns + by_symbol, token, chance.choice([0, SCALE // 4])),
            "start_max": start_max,
            "net_return_min": chance.choice([Fraction(1), Fraction(10_005, 10_000), Fraction(99, 100)]),
        }


def checked(world: World) -> tuple[Evaluator, ReferenceCheck] | None:
    chance = world.chance
    starts = chance.choice([None, None, ["USDT"], ["BTC", "USDT"]])
    lengths = chance.choice([(3,), (4,), (3, 4)])
    try:
        index = build_index(world.symbols, starts, lengths)
    except UnknownStart:
        return None
    evaluator = Evaluator(index, world.image, age_ns_max=1_000, **world.terms())
    return evaluator, ReferenceCheck(evaluator, starts, lengths)


def run(check: ReferenceCheck, stretch: int = 100_000) -> list[Mismatch]:
    return [found for found in check.sample(NOW_NS, stretch) if found is not None]


@pytest.mark.parametrize("seed", range(60))
def test_they_agree_on_every_cycle_of_any_market(seed: int) -> None:
    print(f"seed {seed}")
    for part in range(4):
        world = World(seed * 1_000 + part)
        made = checked(world)
        if made is None:
            continue
        evaluator, check = made
        assert run(check) == []
        assert check.checked >= len(evaluator.index)
        # Also those that the screen lets nobody see.
        for cycle in range(len(evaluator.index)):
            path = evaluator.index.describe(cycle)
            rows, sides = evaluator.index.legs_of(cycle)
            hops = tuple((row, ("BUY", "SELL")[side]) for row, side in zip(rows, sides, strict=True))
            answer = check._reference.answer(
                hops,
                [check._row(row, NOW_NS) for row in rows],
                [check._depth(row, side, NOW_NS) for row, side in hops],
            )
            assert answer_of(evaluator.decide(cycle, NOW_NS)) == answer, path


def test_there_are_opportunities_walks_and_refusals_of_every_kind_among_those_markets() -> None:
    seen: set[str] = set()
    for seed in range(60):
        made = checked(World(seed * 1_000))
        if made is None:
            continue
        evaluator, _ = made
        for cycle in range(len(evaluator.index)):
            decision = evaluator.decide(cycle, NOW_NS)
            seen.add(decision.refusal.value if decision.refusal else "opportunity")
            seen.update(f"{step.levels > 1} levels" for step in decision.steps)
            seen.update(f"{len(decision.steps)} steps" for _ in decision.steps[:1])
    wanted = {one.value for one in evaluate.Refusal} | {"opportunity", "True levels", "3 steps", "4 steps"}
    assert wanted <= seen


def floor_instead(numerator: int, denominator: int) -> int:
    return numerator // denominator


BUGS: dict[str, tuple[object, str, Callable[..., object]]] = {
    "costs are rounded down": (leg, "_ceil_div", floor_instead),
    "lots are rounded up": (leg, "_down", lambda count, step: -(-count // step) * step),
    "only the tops are walked": (cycle_size, "_pays", lambda legs, depths: False),
    "fees of a token are forgotten": (evaluate, "_fee_cost", lambda steps, prices: 0),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_seen_with_the_rows_and_both_answers(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Mismatch] = []
    for seed in range(40):
        world = World(seed, fair=True)
        made = checked(world)
        if made is None:
            continue
        with monkeypatch.context() as patched:
            patched.setattr(*BUGS[bug])
            try:
                found += run(made[1])
            except AssertionError:
                # A broken invariant inside the evaluator: the actor would end, which is seen too.
                continue
    assert found
    for one in found:
        assert one.kind is Disagreement.DIFFERS
        assert one.decision is not None
        assert one.answer is not None
        assert answer_of(one.decision) != one.answer
        assert len(one.rows) == len(one.depths) == len(one.path)


def test_an_opportunity_that_the_screen_misses_is_seen() -> None:
    missed: list[Mismatch] = []
    for seed in range(40):
        made = checked(World(seed, fair=True))
        if made is None:
            continue
        check = made[1]
        check._twin.screen.bounds[0] = 2.0
        missed += run(check)
    assert {one.kind for one in missed} == {Disagreement.MISSED}
    assert all(one.answer is not None and one.answer.refusal == "" and one.decision is None for one in missed)


def test_an_index_with_too_few_cycles_is_seen_once_all_have_been_walked() -> None:
    pairs = (("BTC", "USDT"), ("ETH", "USDT"), ("ETH", "BTC"))
    symbols = [Symbol(base + quote, "TRADING", base, quote) for base, quote in pairs]
    image = format_image(bytearray(layout(3, 1, 8).n_bytes), [0, 0, 0], 1, 8)
    evaluator = Evaluator(build_index(symbols, "USDT"), image)
    check = ReferenceCheck(evaluator, ["USDT"], (3, 4))
    assert run(check, 10_000) == []
    check = ReferenceCheck(evaluator, None, (3,))
    check._reference = Reference(
        [*symbols, Symbol("USDTBTC", "TRADING", "USDT", "BTC")], starts=None, lengths=(3,), fees=FeeTable(),
        start_max=None, net_return_min=Fraction(1),
    )  # fmt: skip
    check._walks = check._reference.walks()
    check._row = lambda row, now_ns: None  # type: ignore[method-assign]
    check._depth = lambda row, side, now_ns: None  # type: ignore[method-assign]
    found = run(check, 10_000)
    assert [(one.kind, one.counted) for one in found] == [(Disagreement.CYCLES, (2, 4))]


def test_a_stretch_ends_and_the_next_sample_goes_on_where_it_did() -> None:
    world = World(3, fair=True)
    index = build_index(world.symbols, None, (3, 4))
    check = ReferenceCheck(Evaluator(index, world.image), None, (3, 4))
    first, samples = check._walks, 0
    while check._walks is first:
        assert run(check, 7) == []
        samples += 1
    assert check.samples == samples > 3
    assert check.checked >= len(index)


def test_a_copy_stands_still_and_what_is_busy_is_busy_in_it() -> None:
    world = World(5, fair=True)
    rows = range(1, len(world.symbols))

    def values(image: BookImage) -> str:
        ladders = [image.read_live_ladder(row, NOW_NS) for row in world.deep]
        return repr(([image.read_row(row) for row in rows], ladders, [image.read_header(feed) for feed in range(2)]))

    copy = ImageCopy(world.image)
    assert copy.image.read_live_row(1, NOW_NS)[0] is Verdict.INVALID
    world.image._words[world.image.layout.rows_at] |= 1
    copy.refresh()
    before = values(world.image)
    assert values(copy.image) == before
    assert copy.image.read_row(0) is None
    for row in rows:
        world.quote(row)
    world.writer.beat(NOW_NS + 7)
    assert values(copy.image) == before != values(world.image)
    copy.refresh()
    assert values(copy.image) == values(world.image)
