"""Sizes over the levels of a book: against every combination of levels in Fractions, and every combination of lots."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.book_image import Row, Verdict
from kernels.cycles import BUY, SELL
from kernels.evaluate import Decision, LadderUsed, Refusal, Terms, decide
from kernels.exchange_info import Symbol
from kernels.fixed8 import SCALE
from kernels.leg import leg_of

Levels = list[tuple[int, int]]


class Book(NamedTuple):
    """One leg: its market, its side, and that side's levels, best first."""

    symbol: Symbol
    side: int
    levels: Levels
    fee_e8: int


def row_of(book: Book, update_id: int = 7) -> Row:
    px, qty = book.levels[0]
    if book.side == BUY:
        return Row(2, max(1, px // 2), qty, px, qty, update_id, 900, 1)
    return Row(2, px, qty, px * 2, qty, update_id, 900, 1)


def run(
    books: list[Book],
    start_max: int | None = None,
    net_return_min: Fraction = Fraction(1),
    walked: bool = True,
    token: str = "",
) -> Decision:
    terms = Terms(tuple(book.fee_e8 for book in books), start_max, net_return_min, token)
    rows = [(Verdict.LIVE, row_of(book)) for book in books]
    ladders = [LadderUsed(4, 7, 100, tuple(book.levels)) if walked else None for book in books]
    symbols, sides = [book.symbol for book in books], [book.side for book in books]
    return decide(3, "A", symbols, sides, rows, terms, 1000, ladders)


def rates(book: Book, depth: int) -> list[tuple[Fraction, Fraction]]:
    """Return (what a level takes of the input, output for each of the input) of the first levels, fee taken off."""
    kept = 1 - Fraction(book.fee_e8, SCALE)
    if book.side == BUY:
        return [(Fraction(qty * px, SCALE), Fraction(SCALE, px) * kept) for px, qty in book.levels[:depth]]
    return [(Fraction(qty), Fraction(px, SCALE) * kept) for px, qty in book.levels[:depth]]


def forwards(level_rates: list[tuple[Fraction, Fraction]], have: Fraction) -> Fraction:
    out = Fraction(0)
    for room, rate in level_rates:
        used = min(room, have)
        out, have = out + used * rate, have - used
    return out


def backwards(level_rates: list[tuple[Fraction, Fraction]], wanted: Fraction) -> Fraction:
    cost = Fraction(0)
    for room, rate in level_rates:
        got = min(room * rate, wanted)
        cost, wanted = cost + got / rate, wanted - got
    assert wanted <= 0
    return cost


def best_gain_of_all_level_combinations(books: list[Book], start_max: int | None) -> Fraction:
    """Try each choice of how many levels each leg uses, at the most that they let through, without any rounding."""
    best = Fraction(0)
    for depths in itertools.product(*(range(1, len(book.levels) + 1) for book in books)):
        chosen = [rates(book, depth) for book, depth in zip(books, depths, strict=True)]
        have = sum((room for room, _ in chosen[0]), Fraction(0))
        have = have if start_max is None else min(have, Fraction(start_max))
        for level_rates in chosen:
            have = forwards(level_rates, have)
        received = have
        for level_rates in reversed(chosen):
            have = backwards(level_rates, have)
        best = max(best, received - have)
    return best


def check_steps(books: list[Book], decision: Decision, start_max: int | None) -> None:
    """Hold each step to what stands, to the venue's rules, and to exact sums rounded against us."""
    carried = start_max
    for at, (book, step) in enumerate(zip(books, decision.steps, strict=True)):
        left, quote = step.qty, Fraction(0)
        for number, (px, qty) in enumerate(book.levels, 1):
            part = min(left, qty)
            quote, left = quote + Fraction(part * px, SCALE), left - part
            if left == 0:
                assert (step.limit_px, step.levels) == (px, number)
                break
        assert left == 0, "more than stands"
        symbol, buy = book.symbol, book.side == BUY
        assert step.qty % symbol.lot_size == 0
        assert symbol.min_qty <= step.qty <= symbol.max_qty
        assert step.qty * step.limit_px >= symbol.min_notional * SCALE
        spent, whole = (quote, Fraction(step.qty)) if buy else (Fraction(step.qty), quote)
        exact = whole * (1 - Fraction(book.fee_e8, SCALE))
        assert spent <= step.spent < spent + step.levels
        assert exact - step.levels - 1 < step.received <= exact
        assert carried is None or step.spent <= carried
        assert at == 0 or carried is None or step.residual == carried - step.spent
        carried = step.received


@st.composite
def deep_books(draw: st.DrawFn) -> list[Book]:
    """Three or four legs near parity, each level a little worse, so that the best depth lies anywhere."""
    books = []
    for number in range(draw(st.sampled_from([3, 3, 4]))):
        side = draw(st.sampled_from([BUY, SELL]))
        px = draw(st.integers(SCALE * 98 // 100, SCALE * 102 // 100))
        levels = []
        for _ in range(draw(st.integers(1, 4 if number < 3 else 2))):
            levels.append((px, draw(st.integers(10**6, 10**12))))
            step = draw(st.integers(1, SCALE // 100))
            px += step if side == BUY else -step
        symbol = Symbol(f"S{number}", "TRADING", "B", "Q", 1, 1)
        books.append(Book(symbol, side, levels, draw(st.sampled_from([0, 75_000, 100_000]))))
    return books


@settings(max_examples=400, deadline=None)
@given(deep_books(), st.one_of(st.none(), st.integers(10**5, 10**13)))
def test_no_combination_of_levels_gains_more(books: list[Book], start_max: int | None) -> None:
    decision = run(books, start_max)
    best = best_gain_of_all_level_combinations(books, start_max)
    # Each level of each leg may lose a count or two to rounding, at rates near one.
    assert decision.net_gain <= best
    if best > 200:
        assert decision.refusal is None
        assert best - decision.net_gain <= 200
    check_steps(books, decision, start_max)


@st.composite
def lumpy_books(draw: st.DrawFn) -> list[Book]:
    """Three legs of a few lots a level, each lot a hundredth of what stands, minimum sizes, and a token perhaps."""
    books = []
    for number in range(3):
        side = draw(st.sampled_from([BUY, SELL]))
        lot = draw(st.sampled_from([SCALE, 2 * SCALE]))
        px = draw(st.integers(SCALE * 90 // 100, SCALE * 110 // 100)) // 1000 * 1000
        levels = []
        for _ in range(draw(st.integers(1, 3))):
            levels.append((px, lot * draw(st.integers(1, 4))))
            step = draw(st.integers(1, 50)) * SCALE // 1000
            px += step if side == BUY else -step
        symbol = Symbol(
            f"S{number}", "TRADING", "B", "Q", 1000, lot,
            min_qty=draw(st.sampled_from([1, 3 * SCALE])),
            max_qty=draw(st.sampled_from([2**62, 5 * SCALE])),
            min_notional=draw(st.sampled_from([0, 4 * SCALE])),
        )  # fmt: skip
        books.append(Book(symbol, side, levels, draw(st.sampled_from([0, 100_000]))))
    return books


def best_gain_of_all_lots(books: list[Book], start_max: int | None) -> int | None:
    """Try every number of lots on every leg, rounded as the venue rounds; None where no size is legal."""
    best = None
    sizes = []
    for book in books:
        symbol = book.symbol
        most = min(sum(qty for _, qty in book.levels), symbol.max_qty)
        sizes.append(range(symbol.lot_size, most + 1, symbol.lot_size))
    for quantities in itertools.product(*sizes):
        have, first_cost = start_max, 0
        for number, (book, qty) in enumerate(zip(books, quantities, strict=True)):
            left, quote, px = qty, 0, 0
            for level_px, standing in book.levels:
                part = min(left, standing)
                left -= part
                px = level_px if part else px
                quote += -(-part * level_px // SCALE) if book.side == BUY else part * level_px // SCALE
            cost, amount = (quote, qty) if book.side == BUY else (qty, quote)
            if qty < book.symbol.min_qty or qty * px < book.symbol.min_notional * SCALE:
                break
            if have is not None and cost > have:
                break
            first_cost = cost if number == 0 else first_cost
            have = amount - -(-amount * book.fee_e8 // SCALE)
        else:
            assert have is not None
            best = have - first_cost if best is None else max(best, have - first_cost)
    return best


@settings(max_examples=300, deadline=None)
@given(lumpy_books(), st.one_of(st.none(), st.integers(1, 12).map(lambda units: units * SCALE)))
def test_no_number_of_lots_gains_more_than_a_lot_of_each_leg_is_worth(books: list[Book], start_max: int | None) -> None:
    decision = run(books, start_max)
    best = best_gain_of_all_lots(books, start_max)
    if best is None:
        assert decision.steps == ()
        return
    if decision.steps:
        check_steps(books, decision, start_max)
        assert decision.net_gain <= best
    if best > 0:
        slack = sum(book.symbol.lot_size for book in books) * 13 // 10
        assert decision.net_gain >= best - slack


@settings(max_examples=300, deadline=None)
@given(
    deep_books(),
    st.one_of(st.none(), st.integers(10**5, 10**13)),
    st.sampled_from([Fraction(1), Fraction(1_001, 1_000), Fraction(102, 100)]),
    st.sampled_from(["", "BNB"]),
)
def test_depth_never_loses_what_the_tops_alone_find_and_never_beats_the_screens_bound(
    books: list[Book], start_max: int | None, net_return_min: Fraction, token: str
) -> None:
    tops = run(books, start_max, net_return_min, walked=False, token=token)
    deep = run(books, start_max, net_return_min, token=token)
    assert deep.refusal is None or tops.refusal is not None
    if tops.refusal is None:
        assert deep.net_gain >= tops.net_gain
    bound = Fraction(1)
    for book in books:
        px = book.levels[0][0]
        bound *= Fraction(SCALE, px) if book.side == BUY else Fraction(px, SCALE)
        bound *= 1 - Fraction(book.fee_e8, SCALE)
    assert Fraction(deep.spent + deep.net_gain, deep.spent) <= bound
    assert deep.gross_return == tops.gross_return


def usdt_eth_btc() -> list[Book]:
    lots = {"tick_size": 10**6, "lot_size": 10**5}
    return [
        Book(Symbol("ETHUSDT", "TRADING", "ETH", "USDT", **lots), BUY,
             [(2_000 * SCALE, SCALE), (2_010 * SCALE, 2 * SCALE), (2_100 * SCALE, 9 * SCALE)], 0),
        Book(Symbol("ETHBTC", "TRADING", "ETH", "BTC", 100, 10**5), SELL,
             [(7_000_000, 2 * SCALE), (6_900_000, 50 * SCALE)], 0),
        Book(Symbol("BTCUSDT", "TRADING", "BTC", "USDT", **lots), SELL, [(30_000 * SCALE, 10 * SCALE)], 0),
    ]  # fmt: skip


def test_a_walk_worked_by_hand() -> None:
    # One ETH: 2,000 in, 2,100 out. A second at 2,010 gains 90. A third sells at 0.069: 2,070, gains 60. A fourth costs
    # 2,100 and loses 30. So three: 6,020 in, 0.209 BTC, 6,270 out.
    decision = run(usdt_eth_btc())
    assert [step.qty for step in decision.steps] == [3 * SCALE, 3 * SCALE, 20_900_000]
    assert [step.levels for step in decision.steps] == [2, 2, 1]
    assert [step.limit_px for step in decision.steps] == [2_010 * SCALE, 6_900_000, 30_000 * SCALE]
    assert (decision.spent, decision.received) == (6_020 * SCALE, 6_270 * SCALE)


def test_the_size_keeps_to_the_least_return_that_is_asked_for() -> None:
    # The top alone returns 1.05; two ETH 4,200 / 4,010 = 1.0474; three 1.0415.
    decision = run(usdt_eth_btc(), net_return_min=Fraction(1_045, 1_000))
    assert (decision.steps[0].qty, decision.net_return) == (2 * SCALE, "1.047381546135")
    refused = run(usdt_eth_btc(), net_return_min=Fraction(106, 100))
    assert (refused.refusal, refused.spent) == (Refusal.NO_GAIN, 6_020 * SCALE)


def test_levels_make_a_size_legal_that_the_top_alone_is_too_small_for() -> None:
    books = usdt_eth_btc()
    symbol = Symbol("ETHUSDT", "TRADING", "ETH", "USDT", 10**6, 10**5, min_notional=5_000 * SCALE)
    books[0] = books[0]._replace(symbol=symbol)
    assert run(books, walked=False).refusal is Refusal.BELOW_MIN_NOTIONAL
    assert run(books).steps[0].qty == 3 * SCALE


def test_what_a_newer_ladder_has_no_longer_at_the_top_is_not_counted_and_nothing_better_is_used() -> None:
    symbol = Symbol("X", "TRADING", "B", "Q", 1, 1)
    row = Row(2, 90, 5, 100, 10, 7, 0, 1)
    asks = ((99, 3), (100, 4), (101, 6))
    assert leg_of(symbol, BUY, row, 0, False, asks, 7).levels == ((100, 10), (101, 6))
    assert leg_of(symbol, BUY, row, 0, False, asks, 8).levels == ((100, 4), (101, 6))
    assert leg_of(symbol, BUY, row, 0, False, ((101, 6),), 8).levels == ((101, 6),)
    assert leg_of(symbol, BUY, row, 0, False, ((99, 3),), 8).levels == ((100, 0),)
    bids = ((91, 3), (90, 9), (80, 1))
    assert leg_of(symbol, SELL, row, 0, False, bids, 8).levels == ((90, 5), (80, 1))
    assert leg_of(symbol, SELL, row, 0, False, (), 8).levels == ((90, 5),)
