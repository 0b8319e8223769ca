"""A look at the market as text for a person: pure."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.book_image import Row, Verdict
from kernels.evaluate import Decision, LadderUsed, LegQuote, Refusal, Step
from kernels.exchange_info import Symbol
from kernels.fixed8 import format_fixed8
from supervisors.market_look import BookLook, ConnectionLook, LadderLook, Level

LEVELS_SHOWN = 10

REFUSED = {
    Refusal.LEG_NOT_LIVE: "a leg does not count now",
    Refusal.BELOW_TICK: "a price rounded to its tick is 0",
    Refusal.BELOW_LOT: "what there is does not come to one lot of a leg",
    Refusal.BELOW_MIN_QTY: "what there is is below a leg's least quantity",
    Refusal.BELOW_MIN_NOTIONAL: "what there is is below a leg's least notional",
    Refusal.NO_GAIN: "the net return is not above exchange.net_return_bps_min",
}


def short(text: str) -> str:
    """A decimal of eight places without the zeros at its end."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount(count: int) -> str:
    """A count of 1e-8 as a short decimal."""
    return short(format_fixed8(count))


# ---- one symbol


def book_text(look: BookLook) -> str:
    """One symbol's row, a fact a line."""
    state = look.state + (f": {look.why}" if look.why else "")
    lines = [f"{look.symbol} ({look.base}/{look.quote})  {state}"]
    if look.age_ms is None:
        lines.append("  no prices yet")
    else:
        capped = "  (a quantity was capped: it is more than Fixed8 holds)" if look.quantity_capped else ""
        lines.append(f"  bid {short(look.bid):>18}  × {short(look.bid_qty)}")
        lines.append(f"  ask {short(look.ask):>18}  × {short(look.ask_qty)}{capped}")
        lines.append(f"  age {look.age_ms:,.1f} ms (counts up to {look.age_ms_max:,} ms) · update {look.update_id}")
    lines.append(f"  sequence {look.sequence} · epoch {look.epoch}")
    lines += [f"  {name} {_connection(one)}" for name, one in (("feed", look.connection), ("twin", look.twin)) if one]
    if look.connection is None:
        lines.append("  no connection owns it: it is not followed")
    lines += _ladder(look.ladder) if look.ladder is not None else ["  depth: no ladder is kept of it"]
    return "\n".join(lines)


def _connection(one: ConnectionLook) -> str:
    beat = "never beat" if one.beat_ms is None else f"beat {one.beat_ms:,.1f} ms ago"
    return f"{one.role}, connection {one.slot}: {one.state}, {beat}, lag {one.lag_ms:,.1f} ms, epoch {one.epoch}"


def _ladder(ladder: LadderLook) -> list[str]:
    head = f"  depth: {ladder.state}, {len(ladder.bids)} bids and {len(ladder.asks)} asks, "
    lines = [head + f"age {ladder.age_ms:,.1f} ms, update {ladder.update_id}"]
    shown = min(LEVELS_SHOWN, max(len(ladder.bids), len(ladder.asks)))
    for number in range(shown):
        bid, ask = _level(ladder.bids, number), _level(ladder.asks, number)
        lines.append(f"    {bid[1]:>18} {bid[0]:>16} | {ask[0]:<16} {ask[1]:<18}".rstrip())
    return lines


def _level(side: Sequence[Level], number: int) -> tuple[str, str]:
    return (short(side[number].px), short(side[number].qty)) if number < len(side) else ("", "")


# ---- one cycle


def cycle_text(decision: Decision, symbols: Sequence[Symbol]) -> str:
    """A cycle's legs as they stand, each step of its arithmetic, what it returns, and why it is none."""
    named = {symbol.name: symbol for symbol in symbols}
    lines = [" → ".join(decision.path()) + f"   from {decision.start_asset} to {decision.start_asset}"]
    for number, leg in enumerate(decision.legs):
        symbol = named[leg.symbol]
        lines.append(f"leg {number + 1}  {leg.symbol}:{leg.side}  {_leg_state(leg)}")
        lines.append(f"       {_top(leg.row)}")
        lines.append(f"       {_depth(leg.ladder)}")
        if number < len(decision.steps):
            lines += [f"       {line}" for line in _step(decision.steps[number], symbol, leg, decision.fee_token)]
    if decision.gross_return:
        lines.append(f"gross  {decision.gross_return} (the books' prices alone)")
    if decision.steps:
        start = decision.start_asset
        lines.append(f"net    {decision.net_return} (in lots, after fees)")
        cost = f", fees in {decision.fee_token} worth {amount(decision.fee_cost)}" if decision.fee_cost else ""
        lines.append(
            f"       spends {amount(decision.spent)} {start}, receives {amount(decision.received)} {start}{cost}: "
            f"{'gains' if decision.net_gain >= 0 else 'loses'} {amount(abs(decision.net_gain))} {start}"
        )
    lines.append(
        "an opportunity" if decision.refusal is None else f"refused: {decision.refusal} ({REFUSED[decision.refusal]})"
    )
    return "\n".join(lines)


def _leg_state(leg: LegQuote) -> str:
    if leg.verdict is Verdict.LIVE:
        return f"live, {max(leg.age_ns, 0) / 1e6:,.1f} ms old"
    state = leg.row.status.name.lower() if leg.verdict is Verdict.INVALID else leg.verdict.name.lower()
    age = f", {max(leg.age_ns, 0) / 1e6:,.1f} ms old" if leg.row.received_ns else ""
    return f"does not count: {state}{age}"


def _top(row: Row) -> str:
    bid = f"bid {amount(row.bid_px)} × {amount(row.bid_qty)}"
    return f"book     {bid}, ask {amount(row.ask_px)} × {amount(row.ask_qty)}"


def _depth(ladder: LadderUsed | None) -> str:
    if ladder is None:
        return "depth    no live ladder: the top alone"
    total = amount(sum(qty for _, qty in ladder.levels))
    worst = f" down to {amount(ladder.levels[-1][0])}" if ladder.levels else ""
    return f"depth    {len(ladder.levels)} levels, {total} in all{worst}, {ladder.age_ns / 1e6:,.1f} ms old"


def _step(step: Step, symbol: Symbol, leg: LegQuote, fee_token: str) -> list[str]:
    gives, gets = (symbol.quote, symbol.base) if leg.side == "BUY" else (symbol.base, symbol.quote)
    taken = f" (paid in {fee_token})" if fee_token else ""
    levels = f"the best {step.levels} levels" if step.levels > 1 else "the best level"
    lines = [
        f"limit    {amount(step.limit_px)} {symbol.quote} (tick {amount(symbol.tick_size)}), over {levels}",
        f"quantity {amount(step.qty)} {symbol.base} (lot {amount(symbol.lot_size)}, least {amount(symbol.min_qty)}, "
        f"least notional {amount(symbol.min_notional)} {symbol.quote})",
        f"spends   {amount(step.spent)} {gives}",
        f"receives {amount(step.received)} {gets}, fee {amount(step.fee)} {gets}{taken}",
    ]
    if step.residual:
        lines.append(f"residual {amount(step.residual)} {gives} of the leg before is left over")
    return lines
