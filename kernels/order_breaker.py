"""What orders came to, against limits: refusals in a row, slow acknowledgements in a row, divergences that stand, money
lost in a trading day. Pure; whoever asks latches the halt, and a person's word begins it anew (`cleared`).

Counted as money: realized P&L by average cost less commissions, of our own fills, in the day of the fill's venue time.
Open positions are not valued. Amounts are counts of 1e-8 of the account's currency, times nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

DAYS_KEPT = 5
STANDING_MAX = 64
WAITING_MAX = 1_000


class OrderLimits(msgspec.Struct, frozen=True, gc=False):
    """At these it trips; 0: off.

    `ack_slow_max`: how many acknowledgements in a row took longer than `ack_ns_max`. `drawdown_max`: below the highest
    P&L of the day. `daily_loss_max`: below zero in a day.
    """

    rejects_max: int = 0
    ack_ns_max: int = 0
    ack_slow_max: int = 0
    divergence_ns_max: int = 0
    drawdown_max: int = 0
    daily_loss_max: int = 0


class DayMoney(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A trading day's money; `peak` is its highest P&L since it began, or since a person cleared a halt; at least 0
    at first."""

    realized: int = 0
    commission: int = 0
    peak: int = 0

    @property
    def pnl(self) -> int:
        """Net of commissions."""
        return self.realized - self.commission


class OrderBreaker(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """`waiting`: orders written and not yet reported on, with the time; `standing`: divergences, since when."""

    rejects: int = 0
    last_reject: str = ""
    slow: int = 0
    slowest_ns: int = 0
    waiting: Mapping[str, int] = {}
    standing: Mapping[str, int] = {}
    days: Mapping[int, DayMoney] = {}


def written(breaker: OrderBreaker, name: str, at_ns: int) -> OrderBreaker:
    """An order's bytes left; its acknowledgement is awaited. Beyond `WAITING_MAX` the oldest is awaited no more."""
    waiting = {**breaker.waiting, name: at_ns}
    if len(waiting) > WAITING_MAX:
        del waiting[next(iter(waiting))]
    return msgspec.structs.replace(breaker, waiting=waiting)


def reported(breaker: OrderBreaker, limits: OrderLimits, name: str, at_ns: int, rejected: bool) -> OrderBreaker:
    """The venue's first word on an order, or a later one: refused, or taken."""
    began_ns = breaker.waiting.get(name)
    if began_ns is not None:
        took_ns = at_ns - began_ns
        slow = took_ns > limits.ack_ns_max
        breaker = msgspec.structs.replace(
            breaker,
            waiting={key: ns for key, ns in breaker.waiting.items() if key != name},
            slow=breaker.slow + 1 if slow else 0,
            slowest_ns=max(breaker.slowest_ns, took_ns) if slow else 0,
        )
    if rejected:
        return msgspec.structs.replace(breaker, rejects=breaker.rejects + 1, last_reject=name)
    return msgspec.structs.replace(breaker, rejects=0, last_reject="") if breaker.rejects else breaker


def forgotten(breaker: OrderBreaker, name: str) -> OrderBreaker:
    """Its session ended: what it waited for says nothing about the venue."""
    if name not in breaker.waiting:
        return breaker
    return msgspec.structs.replace(breaker, waiting={key: ns for key, ns in breaker.waiting.items() if key != name})


def diverged(breaker: OrderBreaker, key: str, since_ns: int) -> OrderBreaker:
    """A divergence stands; since when at the earliest counts. Those beyond `STANDING_MAX` are not needed to trip."""
    if key in breaker.standing or len(breaker.standing) >= STANDING_MAX:
        return breaker
    return msgspec.structs.replace(breaker, standing={**breaker.standing, key: since_ns})


def agreed(breaker: OrderBreaker, key: str) -> OrderBreaker:
    """A divergence is over."""
    if key not in breaker.standing:
        return breaker
    return msgspec.structs.replace(breaker, standing={one: ns for one, ns in breaker.standing.items() if one != key})


def booked(breaker: OrderBreaker, day: int, realized: int, commission: int) -> OrderBreaker:
    """Add to a day's money; the oldest day beyond `DAYS_KEPT` is forgotten."""
    old = breaker.days.get(day, DayMoney())
    money = msgspec.structs.replace(old, realized=old.realized + realized, commission=old.commission + commission)
    money = msgspec.structs.replace(money, peak=max(old.peak, money.pnl))
    days = {**breaker.days, day: money}
    while len(days) > DAYS_KEPT:
        del days[min(days)]
    return msgspec.structs.replace(breaker, days=days)


def judge(breaker: OrderBreaker, limits: OrderLimits, today: int, now_ns: int) -> str:
    """Return the first limit that is reached, with its figures; empty: none."""
    money = breaker.days.get(today, DayMoney())
    if limits.daily_loss_max and -money.pnl >= limits.daily_loss_max:
        return f"daily loss: {_money(money)}, limit {_amount(limits.daily_loss_max)}"
    drawdown = money.peak - money.pnl
    if limits.drawdown_max and drawdown >= limits.drawdown_max:
        text = f"{_amount(drawdown)} below the day's highest {_amount(money.peak)}"
        return f"loss: {text} ({_money(money)}), limit {_amount(limits.drawdown_max)}"
    if limits.rejects_max and breaker.rejects >= limits.rejects_max:
        text = f"{breaker.rejects} orders refused in a row, last {breaker.last_reject}"
        return f"consecutive rejects: {text}, limit {limits.rejects_max}"
    late = [name for name, ns in breaker.waiting.items() if now_ns - ns > limits.ack_ns_max]
    if limits.ack_slow_max and breaker.slow + len(late) >= limits.ack_slow_max:
        count = breaker.slow + len(late)
        text = f"{count} in a row above {limits.ack_ns_max / 1e6:.0f} ms, {len(late)} of them unanswered"
        return f"acknowledgement latency: {text}, limit {limits.ack_slow_max}"
    for key, since_ns in breaker.standing.items() if limits.divergence_ns_max else ():
        if now_ns - since_ns >= limits.divergence_ns_max:
            text = f"{key} has stood for {(now_ns - since_ns) / 1e9:.0f} s"
            return f"divergence: {text}, limit {limits.divergence_ns_max / 1e9:.0f} s"
    return ""


def cleared(breaker: OrderBreaker, now_ns: int) -> OrderBreaker:
    """A person's word: counts begin anew, divergences have their time again, money is measured from where it is.

    What a day has lost it has lost: a daily loss goes on counting until the next day.
    """
    days = {day: msgspec.structs.replace(money, peak=money.pnl) for day, money in breaker.days.items()}
    return OrderBreaker(standing=dict.fromkeys(breaker.standing, now_ns), days=days)


def _money(money: DayMoney) -> str:
    return f"P&L {_amount(money.pnl)}: realized {_amount(money.realized)}, commissions {_amount(money.commission)}"


def _amount(count: int) -> str:
    return f"{count / 1e8:,.2f}"
