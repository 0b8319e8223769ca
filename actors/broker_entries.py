"""Entries held against the contract, its hours and the account, before anything of them is written.

What is needed is in the state: contract terms that the driver read in this session, and the account values of the last
read. An entry whose contract is not known waits for the driver's answer, which also waits, for a bounded time, for a
first price; terms that cannot be had refuse it. Exits never come here.

What an entry may cost is reserved from its submission until an account read that was begun after its end: until then
the venue's own figures may not have it yet. One that ended without a fill is let go as soon as money runs short.
"""

from __future__ import annotations

import msgspec

from actors.broker_state import Held
from actors.broker_turn import Turn
from actors.effects import Drive
from actors.messages import AccountFigures, BracketIntent, ContractRead, OurCash, Outcome, ReadContract, Side
from kernels.contract_terms import ContractTerms
from kernels.entry_checks import Entry, EntryRules, Funds, fitted, funds_refusal, hours_refusal, worst_cost
from kernels.positions import FIXED, divide_half_even
from kernels.sizing import Refused

READ_AHEAD_MAX = 100
"""Contracts of the settings that are read when a session opens; others are read when they are wanted."""


def checked_entry(turn: Turn, intent: BracketIntent, rules: EntryRules) -> BracketIntent | Refused | None:
    """Return the intent as it may leave, a refusal, or None: its contract has been asked for. Reserves its cost."""
    terms = turn.contracts.get(intent.symbol)
    if terms is None or _is_over(turn, rules, terms):
        ask_contract(turn, intent.symbol)
        return None
    if turn.now_ns - terms.read_ns > turn.settings.contract_age_ns:
        ask_contract(turn, intent.symbol)  # and go by what is known meanwhile
    entry = Entry(
        intent.symbol,
        intent.side is Side.BUY,
        intent.qty,
        intent.limit_px,
        intent.take_profit_px,
        intent.stop_px,
        intent.reference_px,
    )
    fits = fitted(entry, terms, rules)
    if isinstance(fits, Refused):
        return fits
    refused = hours_refusal(terms, rules, turn.now_ns) or _without_funds(turn, intent.intent_id, fits, rules)
    if refused is not None:
        return refused
    if fits is entry:
        return intent
    turn.count("entry_rounded")
    return msgspec.structs.replace(
        intent, qty=fits.qty, limit_px=fits.limit_px, take_profit_px=fits.take_profit_px, stop_px=fits.stop_px
    )


def _is_over(turn: Turn, rules: EntryRules, terms: ContractTerms) -> bool:
    """Whether the hours told are past, and may be told anew: just read, and past, nobody knows them."""
    past = rules.checks_hours and turn.now_ns >= terms.hours_until_ns
    return past and turn.now_ns - terms.read_ns > turn.settings.contract_again_ns


def _without_funds(turn: Turn, intent_id: str, entry: Entry, rules: EntryRules) -> Refused | None:
    account = turn.account
    funds = None
    if account is not None and turn.session is not None and account.account == turn.session.account:
        funds = Funds(account.currency, account.available_funds, account.buying_power, account.as_of_ns)
    cost = worst_cost(entry, rules)
    refused = funds_refusal(cost, funds, sum(turn.reserved.values()), rules, turn.now_ns)
    if refused is not None and refused.guard == "funds":
        _let_go(turn, None)
        refused = funds_refusal(cost, funds, sum(turn.reserved.values()), rules, turn.now_ns)
    if refused is None and rules.checks_funds:
        turn.reserved = {**turn.reserved, intent_id: cost}
    return refused


def _let_go(turn: Turn, account: AccountFigures | None) -> None:
    """Drop what is reserved for entries that are over: unfilled ones, and filled ones that the account has inside."""
    kept = {}
    for intent_id, cost in turn.reserved.items():
        family = turn.families.get(intent_id)
        if family is None:
            continue
        entry = family.orders[0]
        counted = account is not None and entry.since_ns < account.as_of_ns
        if entry.may_trade or (entry.cum_qty and not counted):
            kept[intent_id] = cost
    if len(kept) < len(turn.reserved):
        turn.reserved = kept


def take_account(turn: Turn, account: AccountFigures | None) -> None:
    """Keep what a read told of the account; one that told nothing leaves the old values, which grow old."""
    if account is None:
        turn.count("account_untold")
        return
    turn.account = account
    _let_go(turn, account)


def read_ahead(turn: Turn) -> None:
    """A session opens: ask for the contracts that are going to be traded."""
    if turn.settings.entries is not None:
        for symbol in turn.settings.symbols[:READ_AHEAD_MAX]:
            ask_contract(turn, symbol)


def ask_contract(turn: Turn, symbol: str) -> None:
    """Ask the driver, which answers each asking of a session once, however often it was asked meanwhile."""
    if turn.session is not None:
        turn.effects.append(Drive(ReadContract(turn.session.session_id, symbol)))


def contract_read(turn: Turn, told: ContractRead) -> None:
    """Keep the terms (the oldest make room), or refuse what waited for them."""
    if told.terms is not None:
        contracts = {symbol: terms for symbol, terms in turn.contracts.items() if symbol != told.symbol}
        contracts[told.symbol] = told.terms
        while len(contracts) > turn.settings.contracts_max:
            del contracts[next(iter(contracts))]
        turn.contracts = contracts
        return
    turn.count("contract_unknown")
    for held in list(turn.held.values()):
        if held.intent.symbol == told.symbol and isinstance(held.intent, BracketIntent):
            del turn.held[held.intent.intent_id]
            _refuse_unknown(turn, held, told.fault)


def _refuse_unknown(turn: Turn, held: Held, fault: str) -> None:
    remedy = "look whether the gateway lists this symbol as a US stock, and answers"
    figures = {"field": "symbol", "value": held.intent.symbol, "fault": fault[:300], "remedy": remedy}
    turn.refuse(held, Outcome.REFUSED, "contract_unknown", figures)


def our_cash(turn: Turn) -> OurCash:
    """Return what all fills and commissions that were ever folded did to the cash."""
    paid = sum(position.realized - position.cost for position in turn.positions.values())
    commissions = sum(position.commission for position in turn.positions.values())
    untold = sum(1 for fill in turn.fills.values() if not fill.currency)
    return OurCash(divide_half_even(paid, FIXED) - commissions, untold, turn.money_changed_ns)
