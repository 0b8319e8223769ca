"""From the venue's text to a decision, on the extremes, against Fractions of the very text that was sent."""

from __future__ import annotations

import json
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.book_image import FeedWriter, RowStatus, Verdict, format_image, layout
from kernels.cycles import BUY, build_index
from kernels.evaluate import Refusal
from kernels.evaluator import Evaluator
from kernels.exchange_info import Symbol
from kernels.fees import FeeTable
from kernels.fixed8 import COUNT_MAX
from kernels.fold import FeedFold
from kernels.frames import SymbolTable
from kernels.reference import Reference
from kernels.reference_check import answer_of

UNIT = Fraction(1, 10**8)
MOST = COUNT_MAX * UNIT
PAIRS = (("B", "A"), ("C", "A"), ("C", "B"), ("D", "A"), ("D", "C"))
SYMBOLS = tuple(Symbol(base + quote, "TRADING", base, quote) for base, quote in PAIRS)
INDEX = build_index(SYMBOLS, None, (3, 4))
FEES = FeeTable(100_000, (("CA", 75_000), ("D*", 99_999_999)))

SPECIAL_PRICES = ("0.00000001", "0.00000002", "0.99999999", "1.00000000", "92233720368.54775807", "0.00000000", "0.0")
prices = st.one_of(
    st.sampled_from(SPECIAL_PRICES),
    st.integers(1, COUNT_MAX).map(lambda count: f"{count // 10**8}.{count % 10**8:08d}"),
)
quantities = st.one_of(
    st.sampled_from([
        "999999999999999999.00000000", "999999999999999999", "123456789012345678.12345678", "92233720368.54775807",
        "92233720368.54775808", "0.00000001", "0.00000000", "0", "0.000000001", "1.999999999",
    ]),
    st.integers(0, 10**12).map(lambda count: f"{count // 10**8}.{count % 10**8:08d}"),
)  # fmt: skip
quotes = st.tuples(prices, quantities, prices, quantities)


def expected_status(bid: Fraction, bid_qty: Fraction, ask: Fraction, ask_qty: Fraction) -> set[RowStatus]:
    """What a frame's figures may come to: nothing to trade on a side, crossed, or valid."""
    if bid == 0 or ask == 0 or bid_qty < UNIT or ask_qty < UNIT:
        return {RowStatus.ONE_SIDED, RowStatus.NEVER_SEEN}
    return {RowStatus.CROSSED} if bid >= ask else {RowStatus.VALID}


@settings(max_examples=400, deadline=None)
@given(st.lists(quotes, min_size=len(SYMBOLS), max_size=len(SYMBOLS)), st.sampled_from([None, 1, 10**9, COUNT_MAX]))
def test_what_was_sent_is_what_is_decided_on_and_no_extreme_bends_it(
    sent: list[tuple[str, str, str, str]], start_max: int | None
) -> None:
    image = format_image(bytearray(layout(len(SYMBOLS), 1, 8).n_bytes), [0] * len(SYMBOLS), 1, 8)
    writer = FeedWriter(image, 0, 1)
    fold = FeedFold(writer, SymbolTable(SYMBOLS))
    writer.beat(1_000)
    for symbol, (bid, bid_qty, ask, ask_qty) in zip(SYMBOLS, sent, strict=True):
        data = {"u": 5, "s": symbol.name, "b": bid, "B": bid_qty, "a": ask, "A": ask_qty}
        fold.apply_frame(json.dumps({"stream": f"{symbol.name.lower()}@bookTicker", "data": data}).encode(), 1_000)
    valid = []
    for number, texts in enumerate(sent):
        verdict, row = image.read_live_row(number, 1_000)
        exact = [Fraction(text) for text in texts]
        assert row is not None
        assert row.status in expected_status(*exact)
        valid.append(verdict is Verdict.LIVE)
        if verdict is Verdict.LIVE:
            bid, bid_qty, ask, ask_qty = exact
            assert (row.bid_px * UNIT, row.ask_px * UNIT) == (bid, ask)
            for count, quantity in ((row.bid_qty, bid_qty), (row.ask_qty, ask_qty)):
                assert count == min(MOST, quantity) // UNIT
            assert row.quantity_capped == (max(bid_qty, ask_qty) >= MOST + UNIT)
    evaluator = Evaluator(INDEX, image, fees=FEES, start_max=start_max)
    decided = {one.cycle for one in evaluator.scan(1_000)}
    reference = Reference(
        SYMBOLS, starts=None, lengths=(3, 4), fees=FEES, start_max=start_max, net_return_min=Fraction(1)
    )
    for cycle in range(len(INDEX)):
        rows, sides = INDEX.legs_of(cycle)
        decision = evaluator.decide(cycle, 1_000)
        assert (decision.refusal is Refusal.LEG_NOT_LIVE) == (not all(valid[row] for row in rows))
        hops = [(row, ("BUY", "SELL")[side]) for row, side in zip(rows, sides, strict=True)]
        read = [image.read_live_row(row, 1_000)[1] if valid[row] else None for row in rows]
        assert answer_of(decision) == reference.answer(hops, read, [None] * len(rows))
        if decision.refusal is None:
            assert cycle in decided
        if decision.gross_return:
            gross = Fraction(1)
            for row, side in zip(rows, sides, strict=True):
                bid, _, ask, _ = (Fraction(text) for text in sent[row])
                gross *= 1 / ask if side == BUY else bid
            assert abs(Fraction(decision.gross_return) - gross) <= Fraction(1, 2 * 10**12)
