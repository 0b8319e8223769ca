"""How a client's contract finds what is listed: one instrument, a chain of them, or nothing (error 200). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from venues.gateway.contracts import (
    CLASSES,
    DERIVED_CON_ID,
    INDEX_SYMBOLS,
    LISTED,
    DerivedClass,
    Instrument,
    derivative,
    derivative_of,
    derivative_parts,
    spots_of,
)
from venues.gateway.exchange_days import is_trading_day, third_friday, trading_day_at_or_before

DETAILS_MAX = 10_000
"""Contracts that one reqContractDetails returns at most; the rest of a chain is not sent."""
SAMPLES_MAX = 16
_STRIKES_FROM, _STRIKES_TO = Decimal("0.6"), Decimal("1.4")
"""Strikes that are listed, as shares of where the underlying started."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The parts of a client's contract that choose an instrument; an empty part does not matter."""

    con_id: int = 0
    symbol: str = ""
    sec_type: str = ""
    expiry: str = ""
    strike: Decimal = Decimal(0)
    right: str = ""
    multiplier: str = ""
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    local_symbol: str = ""
    trading_class: str = ""


class Listing:
    """All instruments of one gateway: its stocks, the indices, and what is derived from them."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self.by_symbol = spots_of([*symbols, *INDEX_SYMBOLS])
        self._by_con_id = {spot.con_id: spot for spot in self.by_symbol.values()}
        self._grids: dict[tuple[str, date], tuple[tuple[date, ...], tuple[Decimal, ...]]] = {}

    def get(self, con_id: int) -> Instrument | None:
        """Return what a conId means, listed today or not: an order outlives the day on which it expired."""
        if con_id < DERIVED_CON_ID:
            return self._by_con_id.get(con_id)
        try:
            under = self.by_symbol.get(derivative_parts(con_id)[0].under)
        except ValueError:
            return None
        return derivative_of(con_id, under.con_id) if under else None

    def known(self, con_id: int) -> Instrument:
        """As `get`, for a conId that was accepted. Raises KeyError."""
        found = self.get(con_id)
        if found is None:
            raise KeyError(con_id)
        return found

    def named(self, name: str, today: date) -> Instrument | None:
        """Return what a local symbol (a stock's is its symbol) means today."""
        spot = self.by_symbol.get(name)
        if spot is not None:
            return spot
        return next((found for kind in ("OPT", "FUT") for found in self.matches(_by_name(name, kind), today)), None)

    def find(self, wanted: Wanted, today: date) -> Instrument | None:
        """Return the one instrument that is meant, or None where nothing or more than one fits."""
        matches = list(self.matches(wanted, today))
        return matches[0] if len(matches) == 1 else None

    def matches(self, wanted: Wanted, today: date) -> Iterator[Instrument]:
        """Yield every instrument that fits, at most DETAILS_MAX."""
        if wanted.currency not in ("", "USD") or not (wanted.con_id or wanted.sec_type):
            return
        if wanted.con_id:
            found = self.get(wanted.con_id)
            if found is not None and _fits(found, wanted) and self._is_listed(found, today):
                yield found
            return
        if wanted.sec_type in ("STK", "IND"):
            spot = self.by_symbol.get(wanted.symbol or wanted.local_symbol)
            if spot is not None and _fits(spot, wanted):
                yield spot
            return
        if not (wanted.symbol or wanted.local_symbol):
            return
        count = 0
        for listed in CLASSES:
            if listed.sec_type == wanted.sec_type and _may_hold(listed, wanted):
                for found in self._chain(listed, wanted, today):
                    if count == DETAILS_MAX:
                        return
                    count += 1
                    yield found

    def classes_on(self, under_con_id: int, today: date) -> list[tuple[DerivedClass, list[date], list[Decimal]]]:
        """Return the option classes of an underlying with their expiries and strikes."""
        spot = self._by_con_id.get(under_con_id)
        if spot is None:
            return []
        listed = [one for one in CLASSES if one.step and one.under == spot.symbol]
        return [(one, list(self._grid(one, today)[0]), list(self._grid(one, today)[1])) for one in listed]

    def samples(self, pattern: str) -> list[tuple[Instrument, list[str]]]:
        """Return stocks and indices whose symbol or name has the pattern, with what is derived from each."""
        text = pattern.upper()
        fitting = [spot for spot in self.by_symbol.values() if text in spot.symbol or text in spot.long_name.upper()]
        fitting.sort(key=lambda spot: (spot.symbol != text, not spot.symbol.startswith(text), spot.symbol))
        kinds = {spot.symbol: sorted({one.sec_type for one in CLASSES if one.under == spot.symbol}) for spot in fitting}
        return [(spot, kinds[spot.symbol]) for spot in fitting[:SAMPLES_MAX]] if text else []

    def _is_listed(self, found: Instrument, today: date) -> bool:
        if not found.is_derived:
            return True
        listed, expiry, strike, _ = derivative_parts(found.con_id)
        expiries, strikes = self._grid(listed, today)
        return expiry in expiries and strike in strikes

    def _chain(self, listed: DerivedClass, wanted: Wanted, today: date) -> Iterator[Instrument]:
        under = self.by_symbol.get(listed.under)
        if under is None:
            return
        expiries, strikes = self._grid(listed, today)
        near = [expiry for expiry in expiries if f"{expiry:%Y%m%d}".startswith(wanted.expiry)]
        rights = [right for right in ("C", "P") if wanted.right[:1] in ("", right)] if listed.step else [""]
        if wanted.local_symbol and listed.step:
            near = [day for day in near if f"{day:%y%m%d}" == wanted.local_symbol[6:12]]
        for expiry in near:
            for strike in strikes:
                if wanted.strike in (0, strike) or not listed.step:
                    for right in rights:
                        found = derivative(listed, expiry, strike, right, under.con_id)
                        if _fits(found, wanted):
                            yield found

    def _grid(self, listed: DerivedClass, today: date) -> tuple[tuple[date, ...], tuple[Decimal, ...]]:
        """Return expiries and strikes that are listed today; kept for the day."""
        key = listed.name, today
        if key not in self._grids:
            if len(self._grids) > 4 * len(CLASSES):
                self._grids.clear()
            self._grids[key] = tuple(expiries_of(listed, today)), tuple(_strikes(listed))
        return self._grids[key]


def _by_name(name: str, kind: str) -> Wanted:
    return Wanted(sec_type=kind, local_symbol=name)


def _may_hold(listed: DerivedClass, wanted: Wanted) -> bool:
    name = wanted.local_symbol[:6].strip() if listed.step else wanted.local_symbol[:-2]
    return (
        wanted.symbol in ("", listed.symbol)
        and wanted.trading_class in ("", listed.name)
        and (not wanted.local_symbol or name == listed.name)
    )


def _fits(found: Instrument, wanted: Wanted) -> bool:
    """Whether no part of what is wanted contradicts the instrument."""
    homes = {"", found.exchange, "ISLAND"} if found.sec_type == "STK" else {"", found.exchange}
    if found.sec_type in ("FUT", "IND") and wanted.exchange not in ("", found.exchange):
        return False
    return (
        wanted.sec_type in ("", found.sec_type)
        and wanted.symbol in ("", found.symbol)
        and wanted.local_symbol in ("", found.local_symbol)
        and wanted.primary_exchange in homes
        and wanted.trading_class in ("", found.trading_class)
        and wanted.multiplier in ("", found.multiplier_text)
        and wanted.right[:1] in ("", found.right or wanted.right[:1])
        and wanted.strike in (0, found.strike)
        and found.expiry.startswith(wanted.expiry)
    )


def expiries_of(listed: DerivedClass, today: date) -> list[date]:
    """Return the expiries of a class from today on, in order."""
    months = [(today.year + (today.month - 1 + ahead) // 12, (today.month - 1 + ahead) % 12 + 1) for ahead in range(16)]
    monthly = [third_friday(year, month) for year, month in months]
    if listed.expiries == "quarterly":
        return [day for day in monthly if day >= today and day.month % 3 == 0][:5]
    found = {day for day in monthly[:13] if day >= today}
    ahead = [today + timedelta(days=days) for days in range(57)]
    if listed.expiries != "monthly":
        found |= {trading_day_at_or_before(day) for day in ahead if day.weekday() == 4}
    if listed.expiries == "daily":
        found |= {day for day in ahead[:15] if is_trading_day(day)}
    return sorted(day for day in found if day >= today)


def _strikes(listed: DerivedClass) -> list[Decimal]:
    if not listed.step:
        return [Decimal(0)]
    start = LISTED[listed.under].start_px
    first, last = int(start * _STRIKES_FROM / listed.step), int(start * _STRIKES_TO / listed.step)
    return [listed.step * place for place in range(first, last + 1)]
