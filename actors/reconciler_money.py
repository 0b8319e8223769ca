"""The reconciler's comparison of the account's cash and equity with what our own fills make of them.

Counting begins at a baseline: the first read that can be compared, or one that a person accepts. A read can be
compared when it told account values in the currency of our fills, every fill has its commission, and none moved our
cash so lately that the venue's figures may not have it.
"""

from __future__ import annotations

import msgspec

from actors.effects import AppendLine, Count, Effect
from actors.messages import AccountFigures, DivergenceChanged, OurCash, PicturesTaken
from actors.reconciler_state import LINES, MoneyView, ReconcilerSettings, ReconcilerState
from kernels.cash_check import Baseline, Worth, compare_cash, compare_equity, value_of
from kernels.reconcile import Finding, FindingKind

QUIET_NS = 1_000_000_000
"""So long before the account was asked nothing of ours may have moved."""


def obstacle(settings: ReconcilerSettings, state: ReconcilerState, pictures: PicturesTaken) -> str:
    """Say why this read cannot be compared; empty: it can."""
    account, ours = pictures.read.account, pictures.cash
    if not settings.compare_cash:
        return "switched off"
    if account is None or ours is None:
        return "no account values were told"
    if account.account != state.account:
        return f"values of account {account.account}"
    if account.currency != settings.currency:
        return f"account in {account.currency or 'an untold currency'}, fills in {settings.currency}"
    if ours.untold:
        return f"{ours.untold} fills without a commission"
    return "cash moves now" if ours.changed_ns > account.as_of_ns - QUIET_NS else ""


def take_baseline(
    settings: ReconcilerSettings, state: ReconcilerState, pictures: PicturesTaken, now_ns: int
) -> tuple[ReconcilerState, tuple[Effect, ...]]:
    """Begin to count, where nothing was counted yet, of another account, or where a person wants it anew."""
    account, ours, old = pictures.read.account, pictures.cash, state.baseline
    text = obstacle(settings, state, pictures)
    state = msgspec.structs.replace(state, money=_view(state, pictures, text))
    wanted = old is None or old.account != state.account or state.accept_asked_ns > old.asked_ns
    if text or not wanted or account is None or ours is None:
        return state, ()
    valued = value_of(_held(pictures), {one.symbol: one.px for one in account.holdings})
    other = None
    if valued is not None and _all_ours(account, pictures):
        other = account.net_liquidation - account.cash - valued[0]
    baseline = Baseline(
        account=account.account,
        currency=account.currency,
        cash=account.cash,
        flow=ours.flow,
        other=other,
        at_ns=account.as_of_ns,
        asked_ns=state.accept_asked_ns,
    )
    evidence = f"cash {account.cash}, ours since ever {ours.flow}, other equity {other} (1e-8)"
    line = DivergenceChanged(
        change="accepted" if state.accept_asked_ns else "baseline",
        kind=FindingKind.CASH.value,
        subject=f"{account.account}.{account.currency}",
        evidence=evidence,
        request_id=pictures.read.request_id,
        first_ns=now_ns,
        last_ns=now_ns,
        at_ns=now_ns,
    )
    state = msgspec.structs.replace(state, baseline=baseline)
    state = msgspec.structs.replace(state, money=_view(state, pictures, text))
    return state, (AppendLine(LINES, line), Count("cash_baseline"))


def compare_money(
    settings: ReconcilerSettings, state: ReconcilerState, pictures: PicturesTaken
) -> tuple[Finding, ...] | None:
    """Return what does not agree; None: this read cannot be compared, and says nothing of what stands."""
    account, ours, baseline = pictures.read.account, pictures.cash, state.baseline
    if obstacle(settings, state, pictures) or account is None or ours is None or baseline is None:
        return None
    worth = Worth(account.cash, account.net_liquidation, {one.symbol: one.px for one in account.holdings})
    found: list[Finding | None] = [compare_cash(baseline, worth, ours.flow, settings.cash_tolerance)]
    if found == [None] and _all_ours(account, pictures):
        held = _held(pictures)
        bps_max = settings.equity_bps_max
        found.append(compare_equity(baseline, worth, ours.flow, held, settings.cash_tolerance, bps_max))
    return tuple(finding for finding in found if finding is not None)


def _held(pictures: PicturesTaken) -> list[tuple[str, int]]:
    return [(one.symbol, one.qty) for one in pictures.positions]


def _all_ours(account: AccountFigures, pictures: PicturesTaken) -> bool:
    """What others hold has a value of its own that moves: equity says nothing of us then."""
    theirs = {one.symbol: one.qty for one in account.holdings if one.qty}
    return theirs == {symbol: qty for symbol, qty in _held(pictures) if qty}


def _view(state: ReconcilerState, pictures: PicturesTaken, text: str) -> MoneyView:
    account, ours, baseline = pictures.read.account, pictures.cash or OurCash(0, 0, 0), state.baseline
    if account is None:
        return msgspec.structs.replace(state.money, not_compared=text)
    expected = None
    if baseline is not None and baseline.account == account.account:
        expected = baseline.cash + ours.flow - baseline.flow
    return MoneyView(
        account=account.account,
        currency=account.currency,
        cash=account.cash,
        expected_cash=expected,
        net_liquidation=account.net_liquidation,
        as_of_ns=account.as_of_ns,
        baseline_ns=baseline.at_ns if baseline is not None else 0,
        not_compared=text,
    )
