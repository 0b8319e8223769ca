"""A replay written the plain way, sharing nothing with the engine: dicts, Decimal, Fraction, every cycle every time.

It knows only the good forms and the few faults that its tests plant; lots are of 1e-8, so that sizes come out of
plain rounding.
"""

from __future__ import annotations

import itertools
import json
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import ceil, floor

Quote = tuple[Fraction, Fraction, Fraction, Fraction]
E8 = 10**8


def cycles_of(pairs: tuple[tuple[str, str], ...], start: str) -> list[list[tuple[str, str]]]:
    edges = {}
    for base, quote in pairs:
        edges[quote, base] = (base + quote, "BUY")
        edges[base, quote] = (base + quote, "SELL")
    assets = {asset for pair in pairs for asset in pair} - {start}
    return [
        [edges[start, one], edges[one, other], edges[other, start]]
        for one, other in itertools.permutations(sorted(assets), 2)
        if (start, one) in edges and (one, other) in edges and (other, start) in edges
    ]


def gross(path: list[tuple[str, str]], book: dict[str, Quote]) -> Fraction:
    result = Fraction(1)
    for name, side in path:
        bid, _, ask, _ = book[name]
        result *= 1 / ask if side == "BUY" else bid
    return result


def net(path: list[tuple[str, str]], book: dict[str, Quote], fee: Fraction, min_notional: Fraction) -> Fraction | None:
    """Return received / spent at the largest size, rounding at 1e-8 against us; None where a leg is too small."""

    def down(value: Fraction) -> Fraction:
        return Fraction(floor(value * E8), E8)

    def up(value: Fraction) -> Fraction:
        return Fraction(ceil(value * E8), E8)

    name, side = path[0]
    bid, bid_qty, ask, ask_qty = book[name]
    have = up(ask * ask_qty) if side == "BUY" else bid_qty
    for name, side in path:
        bid, bid_qty, ask, ask_qty = book[name]
        qty = min(ask_qty, down(have / ask)) if side == "BUY" else min(bid_qty, have)
        if qty <= 0 or qty * (ask if side == "BUY" else bid) < min_notional:
            return None
        last = qty
        have = down((qty if side == "BUY" else down(qty * bid)) * (1 - fee))
    received = have
    # Backwards: the least that still gives the last leg its quantity.
    quantity = last
    for at in (1, 0):
        later_name, later_side = path[at + 1]
        needed = up(quantity * book[later_name][2]) if later_side == "BUY" else quantity
        name, side = path[at]
        amount = up(needed / (1 - fee))
        price = book[name][2] if side == "BUY" else book[name][0]
        least = up(min_notional / price)
        quantity = max(amount if side == "BUY" else up(amount / price), least)
    name, side = path[0]
    spent = up(quantity * book[name][2]) if side == "BUY" else quantity
    return received / spent


def naive_replay(
    pairs: tuple[tuple[str, str], ...], lines: list[bytes], start: str, fee_bps: str, min_notional: str
) -> dict[str, object]:
    paths = cycles_of(pairs, start)
    fee = Fraction(fee_bps) / 10000
    book: dict[str, Quote] = {}
    parsed = evaluations = opportunities = 0
    rejected = 0
    latest: dict[str, int] = {}
    for line in lines:
        frame = line.split(b" ", 1)[1]
        data = json.loads(frame)["data"]
        name = data["s"]
        try:
            bid, bid_qty, ask, ask_qty = (Fraction(Decimal(data[field])) for field in "bBaA")
        except InvalidOperation:
            book.pop(name, None)
            rejected += 1
            continue
        if 0 in (bid * bid_qty, ask * ask_qty) or bid >= ask:
            book.pop(name, None)
            rejected += 1
            continue
        if data["u"] <= latest.get(name, 0):
            rejected += 1
            continue
        latest[name] = data["u"]
        book[name] = (bid, bid_qty, ask, ask_qty)
        parsed += 1
        for path in paths:
            if name in {leg for leg, _ in path} and all(leg in book for leg, _ in path):
                evaluations += 1
                result = net(path, book, fee, Fraction(min_notional))
                opportunities += result is not None and result > 1
    complete = [(gross(path, book), path) for path in paths if all(leg in book for leg, _ in path)]
    best = max((value for value, _ in complete), default=None)
    return {
        "frames": len(lines),
        "parsed": parsed,
        "rejected": rejected,
        "directed_cycles": len(paths),
        "evaluations": evaluations,
        "above_one_gross": sum(value > 1 for value, _ in complete),
        "best_gross_return": best,
        "best_paths": [[f"{name}:{side}" for name, side in path] for value, path in complete if value == best],
        "opportunities": opportunities,
    }
