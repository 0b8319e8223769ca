"""Two small roles that try the shell and its delivery alone: one decides, one carries out, nothing else."""

from __future__ import annotations

import msgspec

from actors.effects import AckStream, Effect, Send
from actors.messages import (
    AnyMessage,
    BracketIntent,
    Envelope,
    IntentOutcome,
    Outcome,
    PlaceBracket,
    Recovered,
    SignalReceived,
)
from tests.sim.bus import STREAM


class DeciderState(msgspec.Struct, frozen=True):
    """Outcome of each signal (empty: not yet), and the entry it came in."""

    outcomes: dict[str, str] = {}
    entries: dict[str, str] = {}


class Decider:
    """A signal becomes an owed command; its answer is the outcome; then the entry is acknowledged."""

    name = "allocator"
    schema_version = 1
    state_type = DeciderState

    def initial(self) -> DeciderState:
        """Nothing yet."""
        return DeciderState()

    def reduce(self, state: DeciderState, envelope: Envelope, now_ns: int) -> tuple[DeciderState, tuple[Effect, ...]]:
        """Take a signal or an answer."""
        match envelope.body:
            case SignalReceived(signal=signal, entry_id=entry_id) if signal.signal_id in state.outcomes:
                done = state.outcomes[signal.signal_id] != ""
                return state, (AckStream(STREAM, entry_id),) if done else ()
            case SignalReceived(signal=signal, entry_id=entry_id):
                outcomes = {**state.outcomes, signal.signal_id: ""}
                intent = BracketIntent(
                    intent_id=f"i-{signal.signal_id}",
                    signal_id=signal.signal_id,
                    strategy=signal.strategy,
                    symbol=signal.symbol,
                    side=signal.side,
                    qty=1,
                    limit_px=0,
                    take_profit_px=signal.take_profit_px,
                    stop_px=signal.stop_px,
                    expires_ns=signal.expires_ns,
                )
                entries = {**state.entries, signal.signal_id: entry_id}
                return DeciderState(outcomes, entries), (Send("broker.toy", PlaceBracket(intent), owed=True),)
            case IntentOutcome(signal_id=signal_id, outcome=outcome):
                outcomes = {**state.outcomes, signal_id: outcome.value}
                return DeciderState(outcomes, state.entries), (AckStream(STREAM, state.entries[signal_id]),)
            case _:
                return state, ()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is one version."""
        raise ValueError(f"no schema version {schema_version}; there is one")


class ExecutorState(msgspec.Struct, frozen=True):
    """Intents in the order they came, and how often it was started."""

    placed: tuple[str, ...] = ()
    starts: int = 0


class Executor:
    """Answers each command with an owed outcome."""

    name = "broker.toy"
    schema_version = 1
    state_type = ExecutorState

    def initial(self) -> ExecutorState:
        """Nothing yet."""
        return ExecutorState()

    def reduce(self, state: ExecutorState, envelope: Envelope, now_ns: int) -> tuple[ExecutorState, tuple[Effect, ...]]:
        """Take a command."""
        match envelope.body:
            case Recovered():
                return ExecutorState(state.placed, state.starts + 1), ()
            case PlaceBracket(intent=intent):
                assert intent.intent_id not in state.placed
                answer: AnyMessage = IntentOutcome(intent.intent_id, intent.signal_id, Outcome.SUBMITTED)
                return ExecutorState((*state.placed, intent.intent_id), state.starts), (
                    Send(envelope.source, answer, owed=True),
                )
            case _:
                return state, ()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is one version."""
        raise ValueError(f"no schema version {schema_version}; there is one")


class NoDriver:
    """For a role that needs none."""

    def start(self) -> None:
        """Nothing to start."""

    def post(self, command: AnyMessage) -> None:
        """Nothing to command."""
        raise AssertionError(f"no driver here, yet it got {command}")

    def die(self) -> None:
        """Nothing to end."""
