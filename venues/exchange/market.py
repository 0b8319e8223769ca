"""What is listed: the rules of each symbol, from an exchangeInfo reply or made up; and that reply itself.

Prices and quantities are Fixed8 throughout: integer counts of 1e-8, the most places the real exchange shows.
"""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

UNIT: Final = 10**8


class Filter(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """One entry of a symbol's `filters`, as far as it is used; unknown fields of the real reply pass by."""

    filter_type: str
    min_price: str = ""
    max_price: str = ""
    tick_size: str = ""
    min_qty: str = ""
    max_qty: str = ""
    step_size: str = ""
    min_notional: str = ""
    max_notional: str = ""
    apply_to_market: bool | None = None
    apply_min_to_market: bool | None = None
    apply_max_to_market: bool | None = None
    avg_price_mins: int | None = None


class Listing(msgspec.Struct, rename="camel", frozen=True):
    """One entry of `symbols` in an exchangeInfo reply."""

    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: tuple[Filter, ...] = ()
    base_asset_precision: int = 8
    quote_precision: int = 8
    quote_asset_precision: int = 8
    base_commission_precision: int = 8
    quote_commission_precision: int = 8
    order_types: tuple[str, ...] = ("LIMIT", "LIMIT_MAKER", "MARKET")
    iceberg_allowed: bool = False
    oco_allowed: bool = False
    quote_order_qty_market_allowed: bool = False
    is_spot_trading_allowed: bool = True
    is_margin_trading_allowed: bool = False
    permissions: tuple[str, ...] = ("SPOT",)


class _Info(msgspec.Struct):
    symbols: list[msgspec.Raw]


class SymbolRules(msgspec.Struct, frozen=True):
    """What a quote of the symbol must keep to. tick, step, quantities and notional are Fixed8."""

    symbol: str
    base: str
    quote: str
    trading: bool
    tick: int
    step: int
    min_qty: int
    max_qty: int
    min_notional: int


class Market(msgspec.Struct, frozen=True):
    """Every listed symbol, in the order listed, with its entry of the reply byte for byte."""

    rules: tuple[SymbolRules, ...]
    entries: dict[str, bytes]

    def info_reply(
        self, symbols: list[str] | None, now_ms: int, weight_per_minute: int, orders: tuple[int, int] = (100, 200_000)
    ) -> bytes:
        """Return an exchangeInfo reply of the named symbols (None: all). Raises KeyError on an unknown name.

        `orders`: how many may be placed in ten seconds, and in a day.
        """
        chosen = self.entries.values() if symbols is None else [self.entries[symbol] for symbol in symbols]
        limits = b",".join(
            b'{"rateLimitType":"%b","interval":"%b","intervalNum":%d,"limit":%d}' % one
            for one in (
                (b"REQUEST_WEIGHT", b"MINUTE", 1, weight_per_minute),
                (b"ORDERS", b"SECOND", 10, orders[0]),
                (b"ORDERS", b"DAY", 1, orders[1]),
            )
        )
        head = b'{"timezone":"UTC","serverTime":%d,"rateLimits":[%b],"exchangeFilters":[],"symbols":[' % (
            now_ms,
            limits,
        )
        return head + b",".join(chosen) + b"]}"


def format_fixed8(value: int) -> str:
    """Return a count of 1e-8 as the exchange writes it: eight places, always."""
    whole, part = divmod(value, UNIT)
    return f"{whole}.{part:08d}"


def parse_fixed8(text: str) -> int:
    """Return a decimal string as a count of 1e-8, rounded down. Raises decimal.InvalidOperation on other text."""
    return int(Decimal(text) * UNIT)


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, unpacked if it is gzip (told by its first bytes, not by its name)."""
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def load_market(path: Path) -> Market:
    """Return the market of a recorded exchangeInfo reply. Raises msgspec.DecodeError on anything else."""
    entries = msgspec.json.decode(read_bytes(path), type=_Info).symbols
    listings = [msgspec.json.decode(entry, type=Listing) for entry in entries]
    return Market(
        tuple(rules_of(listing) for listing in listings),
        {listing.symbol: bytes(entry) for listing, entry in zip(listings, entries, strict=True)},
    )


def rules_of(listing: Listing) -> SymbolRules:
    """Return the rules in a listing's filters; a filter that is absent binds nothing (tick and step of 1e-8)."""
    by_type = {entry.filter_type: entry for entry in listing.filters}
    price = by_type.get("PRICE_FILTER", Filter(""))
    lot = by_type.get("LOT_SIZE", Filter(""))
    notional = by_type.get("NOTIONAL", by_type.get("MIN_NOTIONAL", Filter("")))
    return SymbolRules(
        symbol=listing.symbol,
        base=listing.base_asset,
        quote=listing.quote_asset,
        trading=listing.status == "TRADING",
        tick=max(1, parse_fixed8(price.tick_size or "0")),
        step=max(1, parse_fixed8(lot.step_size or "0")),
        min_qty=parse_fixed8(lot.min_qty or "0"),
        max_qty=parse_fixed8(lot.max_qty or "0") or 9 * 10**17,
        min_notional=parse_fixed8(notional.min_notional or "0"),
    )


def made_up_listing(base: str, quote: str, tick: int, step: int, min_notional: int) -> Listing:
    """Return a TRADING entry in the real form with the three filters that an evaluator must keep to."""
    return Listing(
        symbol=base + quote,
        status="TRADING",
        base_asset=base,
        quote_asset=quote,
        quote_order_qty_market_allowed=True,
        filters=(
            Filter(
                "PRICE_FILTER",
                min_price=format_fixed8(tick),
                max_price=format_fixed8(10**15),
                tick_size=format_fixed8(tick),
            ),
            Filter(
                "LOT_SIZE",
                min_qty=format_fixed8(step),
                max_qty=format_fixed8(9 * 10**16),
                step_size=format_fixed8(step),
            ),
            Filter(
                "NOTIONAL",
                min_notional=format_fixed8(min_notional),
                max_notional=format_fixed8(9 * 10**14),
                apply_min_to_market=True,
                apply_max_to_market=False,
                avg_price_mins=5,
            ),
        ),
    )


def market_of(listings: list[Listing]) -> Market:
    """Return the market of made-up listings."""
    return Market(
        tuple(rules_of(listing) for listing in listings),
        {listing.symbol: msgspec.json.encode(listing) for listing in listings},
    )
