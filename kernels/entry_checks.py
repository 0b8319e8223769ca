"""Whether an entry may leave: price steps, sizes, hours and money. Pure; exact integers.

Prices, quantities and amounts are Fixed8. Every refusal names the field, its value, what it was held against and what
to do. Nothing here is asked of an exit: a way out is never blocked.
"""

from __future__ import annotations

import msgspec

from kernels.contract_terms import ContractTerms, Session, is_open, next_open_ns, rounded_px, step_at
from kernels.sizing import BPS, FIXED, Refused


class EntryRules(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """`rounds`: what fits no step is rounded in our favour, not refused. `outside_rth`: entries trade, and are let
    through, in all trading hours. `waits_for_open`: their time in force lets them wait for the next session.

    An entry at the market is reckoned `slippage_bps` worse than its reference, each with `commission_bps` on top.
    """

    currency: str = "USD"
    rounds: bool = False
    checks_hours: bool = True
    outside_rth: bool = False
    waits_for_open: bool = False
    checks_funds: bool = True
    uses_buying_power: bool = False
    funds_age_ns_max: int = 90_000_000_000
    slippage_bps: int = 100
    commission_bps: int = 10


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A bracket on its way. `limit_px` 0: at the market; `reference_px` is what it was sized at."""

    symbol: str
    buy: bool
    qty: int
    limit_px: int
    take_profit_px: int
    stop_px: int
    reference_px: int = 0


class Funds(msgspec.Struct, frozen=True, gc=False):
    """What the account has. `currency` empty: the venue has not said of what."""

    currency: str
    available: int
    buying_power: int
    as_of_ns: int


def fitted(entry: Entry, terms: ContractTerms, rules: EntryRules) -> Entry | Refused:
    """Return the entry as it fits the contract: itself, or rounded where the rules say so."""
    if terms.currency != rules.currency:
        return _refused("currency", "currency", terms.currency, f"trade contracts in {rules.currency}")
    if terms.multiplier != FIXED:
        return _refused("multiplier", "multiplier", terms.multiplier, "trade stocks: nothing here counts multiples")
    changed: dict[str, int] = {}
    # In our favour: a buyer's limit lower, a seller's higher; an exit's price better for who holds the position.
    for name, up in (("limit_px", not entry.buy), ("take_profit_px", entry.buy), ("stop_px", entry.buy)):
        px = getattr(entry, name)
        step = step_at(terms.price_steps, px)
        if px % step == 0:
            continue
        if not rules.rounds:
            remedy = f"give a multiple of {step} (1e-8), or set pre_trade.rounding = 'favour'"
            return _refused("tick", name, px, remedy, step=step)
        changed[name] = rounded_px(terms.price_steps, px, up)
    qty = _fitted_qty(entry, terms, rules)
    if isinstance(qty, Refused):
        return qty
    if qty != entry.qty:
        changed["qty"] = qty
    return _on_their_sides(msgspec.structs.replace(entry, **changed)) if changed else entry


def _fitted_qty(entry: Entry, terms: ContractTerms, rules: EntryRules) -> int | Refused:
    rest = entry.qty % terms.size_step
    if rest and not rules.rounds:
        remedy = f"give a multiple of {terms.size_step} (1e-8), or set pre_trade.rounding = 'favour'"
        return _refused("lot", "qty", entry.qty, remedy, step=terms.size_step)
    qty = entry.qty - rest
    if qty < terms.size_min or qty <= 0:
        return _refused("size_min", "qty", entry.qty, f"give at least {terms.size_min} (1e-8)", min=terms.size_min)
    return qty


def _on_their_sides(entry: Entry) -> Entry | Refused:
    """Rounding must not have put an exit on the wrong side of the entry."""
    px = entry.limit_px or entry.reference_px
    low, high = (entry.stop_px, entry.take_profit_px) if entry.buy else (entry.take_profit_px, entry.stop_px)
    if low <= 0 or low >= high or (px and not low < px < high):
        return _refused("bracket_sides", "stop_px", entry.stop_px, "give prices at least a step apart", limit=px)
    return entry


def hours_refusal(terms: ContractTerms, rules: EntryRules, now_ns: int) -> Refused | None:
    """Whether the market is shut for such an entry, or nobody knows."""
    if not rules.checks_hours:
        return None
    if now_ns >= terms.hours_until_ns:
        remedy = "look whether the gateway tells hours for this contract, or set pre_trade.hours = false"
        return _refused("hours_unknown", "hours_until_ns", terms.hours_until_ns, remedy, now=now_ns)
    sessions: tuple[Session, ...] = terms.trading if rules.outside_rth else terms.liquid
    if is_open(sessions, now_ns) or (rules.waits_for_open and next_open_ns(sessions, now_ns)):
        return None
    remedy = "wait for the session, or set pre_trade.entry_outside_rth or pre_trade.entry_time_in_force = 'GTC'"
    return _refused("hours", "now_ns", now_ns, remedy, opens=next_open_ns(sessions, now_ns))


def worst_cost(entry: Entry, rules: EntryRules) -> int:
    """Return what the entry may cost at most, Fixed8, rounded up. Short or long: what is owed is as large."""
    # Without a reference, the farther exit is beyond any price that it may sensibly get.
    px = entry.limit_px or entry.reference_px or max(entry.take_profit_px, entry.stop_px)
    slip_bps = 0 if entry.limit_px else rules.slippage_bps
    return -(-entry.qty * px * (BPS + slip_bps) * (BPS + rules.commission_bps) // (FIXED * BPS * BPS))


def funds_refusal(cost: int, funds: Funds | None, reserved: int, rules: EntryRules, now_ns: int) -> Refused | None:
    """Whether the money is there, beyond what other entries have reserved; what is not known is not there."""
    if not rules.checks_funds:
        return None
    if funds is None:
        return _refused("account_unknown", "account", "", "wait until the gateway answers for account values")
    if funds.currency != rules.currency:
        remedy = f"use an account whose base currency is {rules.currency}: nothing is converted here"
        return _refused("account_currency", "currency", funds.currency or "not told", remedy)
    age_ns = now_ns - funds.as_of_ns
    if age_ns > rules.funds_age_ns_max:
        remedy = "see why the venue is not read (alarm venue_read), or raise pre_trade.funds_age_ms_max"
        return _refused("account_stale", "age_ms", age_ns // 1_000_000, remedy, max=rules.funds_age_ns_max // 1_000_000)
    there = funds.buying_power if rules.uses_buying_power else funds.available
    if cost > there - reserved:
        remedy = "close something, add money, or lower fund.fraction"
        name = "buying_power" if rules.uses_buying_power else "available_funds"
        return _refused("funds", "cost", cost, remedy, reserved=reserved, **{name: there})
    return None


def _refused(guard: str, field: str, value: int | str, remedy: str, **against: int) -> Refused:
    figures = {"field": field, "value": str(value), **{name: str(figure) for name, figure in against.items()}}
    return Refused(guard, {**figures, "remedy": remedy})
