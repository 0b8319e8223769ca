"""Fault plans that crash a role at every point of its loop, for every message that takes part in a bracket's life."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from config.schema import FaultRule
from tests.chaos.books import assert_equal_to_the_gateway, assert_one_outcome_each, settle
from tests.chaos.engine_process import EngineRun
from tests.chaos.load import AWAY, QUIET, Load

INPUTS = {
    "allocator": (
        "Recovered",
        "SignalReceived",
        "IntentOutcome",
        "OrderChanged",
        "PositionChanged",
        "BracketClosed",
        "Acknowledged",
    ),
    "broker.paper": (
        "Recovered",
        "SessionOpened",
        "ReadVenue",
        "VenueRead",
        "GrantGate",
        "PlaceBracket",
        "SubmitWritten",
        "OrderReported",
        "ExecutionReported",
        "CommissionReported",
        "ResolveIntent",
        "Acknowledged",
    ),
    "reconciler": ("Recovered", "BrokerSessionChanged", "PicturesTaken", "TimerFired", "Acknowledged"),
}
"""What each role journals, or would."""

NOT_JOURNALED = {
    ("broker.paper", "ReadVenue"),
    ("reconciler", "TimerFired"),
}
"""Inputs that change no state by themselves: there is no append to crash at."""

OWED_INPUTS = {
    "allocator": ("IntentOutcome", "OrderChanged", "PositionChanged", "BracketClosed"),
    "broker.paper": ("PlaceBracket", "ResolveIntent"),
    "reconciler": ("BrokerSessionChanged",),
}
"""Each is acknowledged."""

EFFECTS = {
    "allocator": ("AckStream", "Project", "AppendLine", "Count"),
    "broker.paper": ("Drive", "Send", "Project", "StartTimer"),
    "reconciler": ("Send", "StartTimer", "ClearAlarm"),
}
SENDS = {
    "allocator": ("PlaceBracket",),
    "broker.paper": (
        "IntentOutcome",
        "OrderChanged",
        "PositionChanged",
        "BracketClosed",
        "BrokerSessionChanged",
        "PicturesTaken",
    ),
    "reconciler": ("ReadVenue", "GrantGate", "ResolveIntent"),
}
FAST = (
    "supervision.backoff_s_max=0.1",
    "supervision.intensity=1000",
    "supervision.root_intensity=1000",
    "reconciler.grace_s=0.5",
    "reconciler.vanished_grace_s=1",
    "reconciler.positions_every_s=2",
    "reconciler.orders_every_s=5",
)
"""Restarts without a budget, and a venue that is read often."""


def crash_points(role: str, seed: int, nth_max: int = 3) -> list[FaultRule]:
    """Every rule of the role, each striking on one of the first `nth_max` matches of an incarnation."""
    chosen = random.Random(f"points {role} {seed}")
    places = [("receive", message) for message in INPUTS[role]]
    for message in INPUTS[role]:
        if (role, message) not in NOT_JOURNALED:
            places += [("before_append", message), ("after_append", message)]
    places += [(point, effect) for effect in EFFECTS[role] for point in ("before_effect", "after_effect")]
    places += [(point, message) for message in SENDS[role] for point in ("before_send", "after_send")]
    places += [(point, message) for message in OWED_INPUTS[role] for point in ("before_ack", "after_ack")]
    once = {"Recovered", "SessionOpened", "BrokerSessionChanged", "ResolveIntent"}  # that comes once an incarnation
    return [
        FaultRule(
            role=role,
            point=point,  # type: ignore[arg-type]
            message=message,
            nth=1 if message in once else chosen.randint(1, nth_max),
            action="crash",
        )
        for point, message in places
    ]


def message_faults(seed: int, count: int) -> list[FaultRule]:
    """Drops, delays, duplicates and reorderings of messages between the three roles."""
    chosen = random.Random(f"messages {seed}")
    return [
        FaultRule(
            role=chosen.choice(sorted(SENDS)),
            point="send",
            nth=chosen.randint(1, 60),
            action=chosen.choice(("drop", "delay", "duplicate", "reorder")),
            arg_s=chosen.choice((0.05, 0.5, 2.0)),
            times=3,
        )
        for _ in range(count)
    ]


def override(rules: list[FaultRule]) -> str:
    """The plan as a `--set` of its own: TOML in one line."""
    tables = [", ".join(f"{k} = {_toml(v)}" for k, v in msgspec.to_builtins(rule).items()) for rule in rules]
    return "faults.plan=[" + ", ".join(f"{{{table}}}" for table in tables) + "]"


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


class PointsMet:
    """What a run of a plan came to: rules that struck and rules that met nothing, by their number."""

    def __init__(self, rules: list[FaultRule], run_dir: Path) -> None:
        struck = {int(path.name.split(".")[0]) for path in (run_dir / "faults").glob("*")}
        self.struck = [rule for k, rule in enumerate(rules) if k in struck]
        self.missed = [rule for k, rule in enumerate(rules) if k not in struck]


def run_plan(run_dir: Path, rules: list[FaultRule], seed: int, signals_max: int, *extra: str) -> PointsMet:
    """Publish signals and move prices until every rule struck or `signals_max` are out; settle; compare the books."""
    with EngineRun(run_dir, *QUIET, *FAST, override(rules), *extra) as engine:
        engine.wait(engine.status, 90, "the engine looks alive")
        load = Load(engine, seed)
        engine.wait(load.prices, 90, "the gateway serves")
        while load.number < signals_max and PointsMet(rules, run_dir).missed:
            before = load.number
            load.step()
            if load.number > before:
                _wait_a_little(engine, load)
        settle(engine, load.published)
        load.exit_all()
        settle(engine, load.published)
        assert_equal_to_the_gateway(engine)
        counted = assert_one_outcome_each(engine, load.published)
        print(f"{load.number} signals: {dict(counted)}")
        assert counted["submitted"] * 2 >= len(load.published), f"most signals went nowhere: {counted}"
        assert engine.status().halt is None
    return PointsMet(rules, run_dir)


def _wait_a_little(engine: EngineRun, load: Load, seconds_max: float = 2.0) -> None:
    """For the outcome of the newest signal, but not for long: crashes may be many between it and its outcome."""
    try:
        engine.wait(lambda: set(load.published) <= set(engine.outcomes()), seconds_max, "an outcome")
    except (AssertionError, *AWAY):
        assert engine.process is None or engine.process.poll() is None, engine.output()
