"""What a spot exchange lists: its exchangeInfo reply, typed, prices and quantities as Fixed8 counts."""

from __future__ import annotations

from typing import Final

import msgspec

from kernels.fixed8 import COUNT_MAX, Fixed8Error, parse_price, parse_quantity

TRADING: Final = "TRADING"


class ExchangeInfoError(ValueError):
    """The reply cannot be used; the text names symbol, field and value, and what to do."""


class Symbol(msgspec.Struct, frozen=True, gc=False):
    """One market. Counts of 1e-8 throughout; the defaults are what a missing or disabled filter means: no limit."""

    name: str
    status: str
    base: str
    quote: str
    tick_size: int = 1
    lot_size: int = 1
    min_qty: int = 1
    max_qty: int = COUNT_MAX
    min_notional: int = 0

    @property
    def trading(self) -> bool:
        """Whether orders may stand now; any status but TRADING says no."""
        return self.status == TRADING


class _Filter(msgspec.Struct, rename="camel", gc=False):
    filter_type: str
    tick_size: str | None = None
    step_size: str | None = None
    min_qty: str | None = None
    max_qty: str | None = None
    min_notional: str | None = None


class _Listed(msgspec.Struct, rename="camel", gc=False):
    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[_Filter] = msgspec.field(default_factory=list)


class _Reply(msgspec.Struct, gc=False):
    symbols: list[_Listed]


_decode: Final = msgspec.json.Decoder(_Reply).decode
_REMEDY: Final = "fetch GET /api/v3/exchangeInfo again, or give a file that holds its reply unchanged"


def parse_exchange_info(reply: bytes) -> tuple[Symbol, ...]:
    """Return the symbols of an exchangeInfo reply (JSON bytes, not packed), in its order.

    PRICE_FILTER gives the tick, LOT_SIZE the lot and the limits of quantity, MIN_NOTIONAL or (later) NOTIONAL the
    minimum notional. A missing filter, or a step of zero, which is how the venue writes a disabled one, leaves the
    default.
    Two markets between the same two assets may stand, and so may a market of an asset against itself (it is in
    no cycle); names are compared as they are, case and script included.

    Raises ExchangeInfoError: not such a reply, an empty name, a name listed twice, or a filter that is not a decimal.
    """
    try:
        listed = _decode(reply).symbols
    except msgspec.DecodeError as error:
        raise ExchangeInfoError(f"exchangeInfo: {error}; {_REMEDY}") from error
    symbols = tuple(_symbol(entry) for entry in listed)
    seen: set[str] = set()
    for symbol in symbols:
        if not (symbol.name and symbol.base and symbol.quote):
            raise ExchangeInfoError(f"exchangeInfo: symbol {symbol.name!r} has an empty name or asset; {_REMEDY}")
        if symbol.name in seen:
            raise ExchangeInfoError(f"exchangeInfo: symbol {symbol.name!r} is listed twice; {_REMEDY}")
        seen.add(symbol.name)
    return symbols


def _symbol(entry: _Listed) -> Symbol:
    tick_size, lot_size, min_qty, max_qty, min_notional = 1, 1, 1, COUNT_MAX, 0
    for one in entry.filters:
        match one.filter_type:
            case "PRICE_FILTER":
                tick_size = _count(entry, one, "tickSize", one.tick_size) or 1
            case "LOT_SIZE":
                lot_size = _count(entry, one, "stepSize", one.step_size) or 1
                min_qty = _count(entry, one, "minQty", one.min_qty) or 1
                max_qty = _count(entry, one, "maxQty", one.max_qty, capped=True) or COUNT_MAX
            case "MIN_NOTIONAL" | "NOTIONAL":
                min_notional = max(min_notional, _count(entry, one, "minNotional", one.min_notional))
            case _:
                pass
    return Symbol(
        name=entry.symbol,
        status=entry.status,
        base=entry.base_asset,
        quote=entry.quote_asset,
        tick_size=tick_size,
        lot_size=lot_size,
        min_qty=min_qty,
        max_qty=max_qty,
        min_notional=min_notional,
    )


def _count(entry: _Listed, one: _Filter, field: str, text: str | None, capped: bool = False) -> int:
    """Return a filter's figure, 0 where it is absent; a maximum beyond Fixed8 (`capped`) is no limit."""
    if text is None:
        return 0
    try:
        return parse_quantity(text).value if capped else parse_price(text)
    except Fixed8Error as error:
        where = f"symbol {entry.symbol!r}, {one.filter_type}.{field}"
        raise ExchangeInfoError(f"exchangeInfo: {where}: {error}; {_REMEDY}") from error
