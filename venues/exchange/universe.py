"""The shape that prices are generated for: assets with fair values, the symbols quoted, where true cycles can be made.

A fair value is an integer count of 1e-12 of the numéraire (USDT where it is listed). Everything here is a function of
the seed and of the listing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import Final, Literal, NamedTuple

from venues.exchange.listing import hub_value_millionths, is_stable, made_up_pairs
from venues.exchange.market import UNIT, Listing, Market, SymbolRules, made_up_listing, market_of

VALUE_UNIT: Final = 10**12
# A symbol whose fair price is fewer ticks than this cannot be quoted with a believable spread: it stays unquoted.
_TICKS_MIN: Final = 20
# Fewer ticks than this, and a true opportunity could not be placed near its intended return.
_TICKS_FOR_OPPORTUNITY_MIN: Final = 1_000

Side = Literal["BUY", "SELL"]


class Leg(NamedTuple):
    """One conversion of a cycle: BUY spends the quote asset at the ask, SELL the base asset at the bid."""

    symbol_index: int
    side: Side


class Pair(NamedTuple):
    """A quoted symbol: its rules and its two assets as indices into `start_values`."""

    rules: SymbolRules
    base: int
    quote: int


@dataclass(frozen=True, slots=True)
class Universe:
    """Quoted pairs, start values by asset, and the cycles (first leg: the one to move) that can be made true.

    `numeraires` are the assets whose values stand still: one a listing, or one a cluster of a large made-up one.

    `openings` holds directed triangles whose first leg lies in no other triangle and whose pair has no second
    symbol: moving that one symbol lifts that one triangle, in that one direction, and no other.
    """

    market: Market
    pairs: tuple[Pair, ...]
    assets: tuple[str, ...]
    start_values: tuple[int, ...]
    numeraires: frozenset[int]
    openings: tuple[tuple[Leg, Leg, Leg], ...]

    def from_numeraire(self, legs: tuple[Leg, ...]) -> tuple[Leg, ...]:
        """Return a cycle's legs turned so that the first spends a numéraire, where the cycle holds one."""
        for position, (index, side) in enumerate(legs):
            pair = self.pairs[index]
            if (pair.quote if side == "BUY" else pair.base) in self.numeraires:
                return legs[position:] + legs[:position]
        return legs


def made_up_universe(count: int, seed: int) -> Universe:
    """Return a universe of `count` made-up symbols, whose ticks are about a basis point of the price or finer."""
    rng = Random(f"exchange-universe/{seed}")
    pairs = made_up_pairs(count)
    values: dict[str, int] = {}
    for asset in chain(("USDT", "BTC", "ETH", "BNB"), *pairs):
        hub_value = hub_value_millionths(asset)
        if hub_value is not None:
            values[asset] = hub_value * (VALUE_UNIT // 10**6)
        elif asset not in values:
            # Products only, no powers: those are not the same to the last bit on every machine.
            values[asset] = int(VALUE_UNIT * (10 + 490 * rng.random() * rng.random()))
    stable = [asset for asset in values if is_stable(asset)]
    return _build(market_of([_listing(base, quote, values) for base, quote in pairs]), values, stable)


def universe_of(market: Market, seed: int) -> Universe:
    """Return a universe of a recorded listing's TRADING symbols, with values that suit their tick sizes."""
    return _build(market, _values_that_suit(market, Random(f"exchange-universe/{seed}")), [_numeraire(market)])


def _listing(base: str, quote: str, values: dict[str, int]) -> Listing:
    mid = values[base] * UNIT // values[quote]
    tick = 10 ** max(0, len(str(mid)) - 5)
    # A step worth about 0.1 of the numéraire at most: rounding a 100 USDT leg to the lot costs 10 bps at worst.
    step = max(1, 10 ** (len(str(VALUE_UNIT * UNIT // (10 * values[base]))) - 1))
    return made_up_listing(base, quote, tick, step, 10 * UNIT * VALUE_UNIT // values[quote] or 1)


def _build(market: Market, values: dict[str, int], stable: list[str]) -> Universe:
    assets = tuple(values)
    index = {asset: position for position, asset in enumerate(assets)}
    pairs = tuple(
        Pair(rules, index[rules.base], index[rules.quote])
        for rules in market.rules
        if rules.trading and values[rules.base] * UNIT // (values[rules.quote] * rules.tick) >= _TICKS_MIN
    )
    start_values = tuple(values.values())
    numeraires = frozenset(index[asset] for asset in stable)
    return Universe(market, pairs, assets, start_values, numeraires, _openings(pairs, start_values, numeraires))


def _numeraire(market: Market) -> str:
    quotes = Counter(rules.quote for rules in market.rules if rules.trading)
    return "USDT" if "USDT" in quotes else quotes.most_common(1)[0][0]


def _values_that_suit(market: Market, rng: Random) -> dict[str, int]:
    """Walk outward from the numéraire, giving each asset a value of some 10,000 ticks in the symbol that reaches it.

    Symbols of the busier quote assets are followed first: alts are valued in USDT or BTC and not in one another.
    """
    trading = [rules for rules in market.rules if rules.trading]
    busyness = Counter(rules.quote for rules in trading)
    trading.sort(key=lambda rules: -busyness[rules.quote])
    values = {_numeraire(market): VALUE_UNIT}
    waiting = trading
    while waiting:
        left = []
        for rules in waiting:
            price = rules.tick * (3_000 + int(27_000 * rng.random()))
            if rules.quote in values and rules.base not in values:
                values[rules.base] = max(1, values[rules.quote] * price // UNIT)
            elif rules.base in values and rules.quote not in values:
                values[rules.quote] = max(1, values[rules.base] * UNIT // price)
            elif rules.base not in values:
                left.append(rules)
        if len(left) == len(waiting):  # an island that no path reaches: it gets a numéraire of its own
            values[left[0].quote] = VALUE_UNIT
        waiting = left
    return values


def _openings(
    pairs: tuple[Pair, ...], values: tuple[int, ...], numeraires: frozenset[int]
) -> tuple[tuple[Leg, Leg, Leg], ...]:
    """Return both directions of every triangle of which a symbol lies in no other, that symbol's leg first.

    Triangles through a numéraire are preferred: an evaluator may start from there only.
    """
    symbols_of: dict[frozenset[int], list[int]] = defaultdict(list)
    neighbours: dict[int, set[int]] = defaultdict(set)
    for position, pair in enumerate(pairs):
        symbols_of[frozenset((pair.base, pair.quote))].append(position)
        neighbours[pair.base].add(pair.quote)
        neighbours[pair.quote].add(pair.base)
    found: list[tuple[Leg, Leg, Leg]] = []
    through_numeraire: list[tuple[Leg, Leg, Leg]] = []
    for position, (rules, base, quote) in enumerate(pairs):
        thirds = neighbours[base] & neighbours[quote]
        if len(symbols_of[frozenset((base, quote))]) != 1 or len(thirds) != 1:
            continue
        third = next(iter(thirds))
        sides = symbols_of[frozenset((base, third))], symbols_of[frozenset((quote, third))]
        if any(len(side) != 1 for side in sides):
            continue
        if values[base] * UNIT // (values[quote] * rules.tick) < _TICKS_FOR_OPPORTUNITY_MIN:
            continue
        base_third, quote_third = sides[0][0], sides[1][0]
        both = (
            (Leg(position, "BUY"), _leg(pairs, base_third, base), _leg(pairs, quote_third, third)),
            (Leg(position, "SELL"), _leg(pairs, quote_third, quote), _leg(pairs, base_third, third)),
        )
        found.extend(both)
        if not numeraires.isdisjoint((base, quote, third)):
            through_numeraire.extend(both)
    return tuple(through_numeraire or found)


def _leg(pairs: tuple[Pair, ...], symbol_index: int, spends: int) -> Leg:
    return Leg(symbol_index, "BUY" if pairs[symbol_index].quote == spends else "SELL")
