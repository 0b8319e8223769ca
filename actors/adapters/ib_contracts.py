"""Contracts and their terms as a gateway tells them: details, the market rule behind the price steps, hours.

One request a symbol at a time, whoever asks; what is known serves the next who asks. Terms that are not told whole
are not terms: a size step of 0, a time zone nobody knows, hours that cannot be read, a rule that is not answered.

Full: beyond `CONTRACTS_MAX` symbols the oldest make room and are asked for again when they are wanted.
"""

from __future__ import annotations

import asyncio
import math
import re
import zoneinfo
from datetime import datetime, timedelta

from ib_insync.contract import Contract, ContractDetails
from ib_insync.objects import PriceIncrement
from ib_insync.wrapper import RequestError

from actors.adapters.ib_forms import FormError, fixed8_of
from actors.adapters.ib_link import Link
from actors.ports import Clock
from kernels.contract_terms import ContractTerms, PriceStep, Session
from kernels.fixed8 import SCALE

CONTRACTS_MAX = 5_000
ROUTE = "SMART"
_RANGE = re.compile(r"(\d{8}):(\d{4})-(?:(\d{8}):)?(\d{4})")
_CLOSED = re.compile(r"(\d{8}):CLOSED")


class Contracts:
    """On the loop's thread only."""

    def __init__(self, clock: Clock, seconds_max: float) -> None:
        self._clock = clock
        self._seconds_max = seconds_max
        self._contracts: dict[str, Contract] = {}
        self._rules: dict[int, tuple[PriceStep, ...]] = {}

    def open(self) -> None:
        """Make what belongs to the running loop."""
        self._rule_turn = asyncio.Lock()

    def known(self, symbol: str) -> Contract | None:
        """Return the contract that orders name, if it has been read."""
        return self._contracts.get(symbol)

    async def contract(self, link: Link, symbol: str) -> Contract:
        """Return the contract that orders name. Raises as `Link.stock`."""
        known = self._contracts.get(symbol)
        return known if known is not None else (await self._read(link, symbol)).contract

    async def terms(self, link: Link, symbol: str) -> ContractTerms:
        """Read them anew. Raises as `Link.stock`, and FormError: told, and not to be understood."""
        details = await self._read(link, symbol)
        rule_id = _rule_id(details)
        steps = self._rules.get(rule_id)
        async with self._rule_turn:
            if steps is None and rule_id not in self._rules:
                self._rules[rule_id] = steps_of(await link.market_rule(rule_id, self._seconds_max))
        return terms_of(details, self._rules[rule_id], self._clock.now_ns())

    def forget_rules(self) -> None:
        """A new session: rules may have changed over night."""
        self._rules.clear()

    async def _read(self, link: Link, symbol: str) -> ContractDetails:
        details = await link.stock_details(symbol, self._seconds_max)
        self._contracts.pop(symbol, None)
        while len(self._contracts) >= CONTRACTS_MAX:
            del self._contracts[next(iter(self._contracts))]
        self._contracts[symbol] = details.contract
        return details


def explained(error: Exception) -> str:
    """Say what a request failed of, for whoever waits for its answer."""
    return f"{error.code} {error.message}" if isinstance(error, RequestError) else str(error)


def _rule_id(details: ContractDetails) -> int:
    """Return the rule of the route that orders take: rules stand in the order of the exchanges."""
    exchanges, rules = details.validExchanges.split(","), details.marketRuleIds.split(",")
    place = exchanges.index(ROUTE) if ROUTE in exchanges else -1
    if not 0 <= place < len(rules) or not rules[place].isascii() or not rules[place].isdigit():
        raise FormError(f"no market rule for {ROUTE}: exchanges {exchanges}, rules {rules}")
    return int(rules[place])


def steps_of(told: list[PriceIncrement]) -> tuple[PriceStep, ...]:
    """Return the price steps of a market rule, ascending from 0. Raises FormError."""
    steps = tuple(sorted((PriceStep(fixed8_of(one.lowEdge), fixed8_of(one.increment)) for one in told), key=_low))
    if not steps or steps[0].low_px != 0 or any(one.step <= 0 for one in steps):
        raise FormError(f"a market rule of {[(one.lowEdge, one.increment) for one in told]}")
    return steps


def _low(step: PriceStep) -> int:
    return step.low_px


def terms_of(details: ContractDetails, steps: tuple[PriceStep, ...], read_ns: int) -> ContractTerms:
    """Return what the details say. Raises FormError where a part is missing or cannot be."""
    contract = details.contract
    trading, until_ns = hours_of(details.tradingHours, details.timeZoneId)
    liquid, liquid_until_ns = hours_of(details.liquidHours, details.timeZoneId)
    size_min, size_step = _size(details.minSize, "minSize"), _size(details.sizeIncrement, "sizeIncrement")
    return ContractTerms(
        symbol=contract.symbol,
        currency=contract.currency,
        multiplier=fixed8_of(float(contract.multiplier)) if contract.multiplier else SCALE,
        price_steps=steps,
        size_min=size_min,
        size_step=size_step,
        trading=trading,
        liquid=liquid,
        hours_until_ns=min(until_ns, liquid_until_ns),
        read_ns=read_ns,
    )


def _size(told: float, name: str) -> int:
    size = fixed8_of(told) if math.isfinite(told) else 0
    if size <= 0:
        raise FormError(f"{name} is {told!r}")
    return size


def hours_of(text: str, zone_name: str) -> tuple[tuple[Session, ...], int]:
    """Return sessions and up to when they are known: the end of the last day that is told. Raises FormError.

    `yyyymmdd:hhmm-yyyymmdd:hhmm` (older gateways: the second date left out) or `yyyymmdd:CLOSED`, between semicolons;
    several sessions of a day may stand behind commas.
    """
    try:
        zone = zoneinfo.ZoneInfo(zone_name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise FormError(f"time zone {zone_name!r} is not known here") from None
    sessions: list[Session] = []
    until_ns = 0
    for part in re.split("[;,]", text):
        closed, told = _CLOSED.fullmatch(part), _RANGE.fullmatch(part)
        if closed is not None:
            until_ns = max(until_ns, _end_of_day_ns(closed[1], zone))
        elif told is not None:
            start, end = _ns(told[1], told[2], zone), _ns(told[3] or told[1], told[4], zone)
            if start >= end:
                raise FormError(f"a session {part!r} that ends before it begins")
            sessions.append((start, end))
            until_ns = max(until_ns, end, _end_of_day_ns(told[1], zone))
        elif part:
            raise FormError(f"hours {part!r}")
    if not until_ns:
        raise FormError("no hours are told")
    return tuple(sorted(sessions)), until_ns


def _ns(day: str, clock: str, zone: zoneinfo.ZoneInfo) -> int:
    return _ns_of(_local(day + clock, zone))


def _end_of_day_ns(day: str, zone: zoneinfo.ZoneInfo) -> int:
    return _ns_of(_local(day + "0000", zone) + timedelta(days=1))


def _local(text: str, zone: zoneinfo.ZoneInfo) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%d%H%M").replace(tzinfo=zone)
    except ValueError as error:
        raise FormError(f"hours of {text}: {error}") from error


def _ns_of(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000
