"""A small signal source: momentum over the last samples of each symbol's price.

Owns: a window of sampled prices a symbol, and when it last signalled. Consumes: `PriceSeen` of its driver. Emits:
`Signal` on the bus stream `signals`. ``momentum = last / first − 1`` over a full window; at or above the threshold it
buys, at or below the negative one it sells (if it may).

Invariants: a signal's id is a function of strategy, symbol and the venue's time, so that a replay makes the same
one; after one, a symbol is quiet for the cool-down; a price out of order, or after a gap, never makes a signal.
Prices within one sample bucket coalesce (counted), so the journal grows by one entry a symbol and bucket, not a tick.

Recovery: windows are in the state; a gap longer than `gap_ns_max` begins a window anew. Full: `symbols_max`
symbols, further ones are counted and ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.effects import Count, Effect, Publish
from actors.messages import Envelope, PriceSeen, Recovered, Side, Signal
from kernels.fixed8 import format_fixed8

BPS = 10_000
SECOND_NS = 1_000_000_000


class MomentumSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Distances in bps of the last price; `tick` is Fixed8 (a cent)."""

    name: str = "source.momentum"
    strategy: str = "momentum"
    window: int = 8
    sample_ns: int = SECOND_NS
    gap_ns_max: int = 30 * SECOND_NS
    threshold_bps: int = 5
    take_profit_bps: int = 30
    stop_bps: int = 20
    cool_down_ns: int = 20 * SECOND_NS
    lifetime_ns: int = 30 * SECOND_NS
    tick: int = 1_000_000
    may_sell: bool = True
    symbols_max: int = 100


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sampled prices, oldest first, the time of the newest, and of the last signal (0: none yet)."""

    prices: tuple[int, ...]
    last_ns: int
    signalled_ns: int = 0


class MomentumState(msgspec.Struct, frozen=True):
    """A window for each symbol."""

    windows: Mapping[str, Window] = {}


Reduced = tuple[MomentumState, tuple[Effect, ...]]


class Momentum:
    """The role; holds nothing but its settings."""

    schema_version = 1
    state_type = MomentumState

    def __init__(self, settings: MomentumSettings | None = None) -> None:
        self.settings = settings or MomentumSettings()

    @property
    def name(self) -> str:
        """Role name."""
        return self.settings.name

    def initial(self) -> MomentumState:
        """No price seen."""
        return MomentumState()

    def show(self, state: MomentumState, now_ns: int) -> dict[str, str]:
        """Return what the console shows: the newest price of each stock."""
        return {name: format_fixed8(window.prices[-1]) for name, window in state.windows.items() if window.prices}

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def reduce(self, state: MomentumState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input."""
        match envelope.body:
            case PriceSeen() as seen:
                return self._price(state, seen, now_ns)
            case Recovered():
                return state, ()
            case _:
                return state, (Count("unexpected"),)

    def _price(self, state: MomentumState, seen: PriceSeen, now_ns: int) -> Reduced:
        settings, window = self.settings, state.windows.get(seen.symbol)
        if seen.last_px <= 0:
            return state, (Count("price_invalid"),)
        if now_ns - seen.ts_event_ns > settings.gap_ns_max:
            return state, (Count("price_stale"),)
        if window is None and len(state.windows) >= settings.symbols_max:
            return state, (Count("symbol_beyond_bound"),)
        if window is not None and seen.ts_event_ns // settings.sample_ns <= window.last_ns // settings.sample_ns:
            late = seen.ts_event_ns < window.last_ns
            return state, (Count("price_out_of_order" if late else "price_coalesced"),)
        effects: tuple[Effect, ...] = ()
        if window is None or seen.ts_event_ns - window.last_ns > settings.gap_ns_max:
            prices: tuple[int, ...] = (seen.last_px,)
            effects = () if window is None else (Count("window_restarted"),)
        else:
            prices = (*window.prices, seen.last_px)[-settings.window :]
        signalled_ns = window.signalled_ns if window is not None else 0
        signal = self._signal(seen, prices, signalled_ns, now_ns)
        if signal is not None:
            signalled_ns = seen.ts_event_ns
            effects = (*effects, Publish("signals", signal), Count(f"signal_{signal.side.value.lower()}"))
        windows = {**state.windows, seen.symbol: Window(prices, seen.ts_event_ns, signalled_ns)}
        return MomentumState(windows), effects

    def _signal(self, seen: PriceSeen, prices: tuple[int, ...], signalled_ns: int, now_ns: int) -> Signal | None:
        settings = self.settings
        quiet = signalled_ns and seen.ts_event_ns - signalled_ns < settings.cool_down_ns
        if quiet or len(prices) < settings.window:
            return None
        moved, needed = (prices[-1] - prices[0]) * BPS, settings.threshold_bps * prices[0]
        if moved >= needed:
            side, sign = Side.BUY, 1
        elif -moved >= needed and settings.may_sell:
            side, sign = Side.SELL, -1
        else:
            return None
        take_profit_px = _off_by(seen.last_px, sign * settings.take_profit_bps, settings.tick)
        stop_px = _off_by(seen.last_px, -sign * settings.stop_bps, settings.tick)
        return Signal(
            signal_id=f"{settings.strategy}-{seen.symbol}-{seen.ts_event_ns // settings.sample_ns}",
            strategy=settings.strategy,
            symbol=seen.symbol,
            side=side,
            take_profit_px=take_profit_px,
            stop_px=stop_px,
            reference_px=seen.last_px,
            ts_event_ns=seen.ts_event_ns,
            expires_ns=now_ns + settings.lifetime_ns,
        )


def _off_by(px: int, bps: int, tick: int) -> int:
    """Return the price `bps` away, on a tick, rounded away from `px` so that an exit is never on the entry itself."""
    target = px * (BPS + bps)
    ticks = -(-target // (BPS * tick)) if bps > 0 else target // (BPS * tick)
    return ticks * tick
