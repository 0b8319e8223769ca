"""Every setting, in frozen structs, checked once at start. Units stand last in the names."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import msgspec

from config import interlock
from config.alarms import Alarms
from config.evaluator import Evaluator
from config.exchange import Exchange, faults_of
from config.execution import EXPLICIT_TO_TRADE, Execution
from config.execution import faults_of as faults_of_execution
from config.gateway import Gateway, faults_of_gateway
from config.limits import (
    AMOUNT_MAX,
    Bps,
    Count,
    Folder,
    Fraction,
    Megabytes,
    Milliseconds,
    Name,
    Port,
    PositiveCount,
    Rate,
    Seconds,
    SecondsOrNone,
    Symbols,
)
from config.orders import Exits, Reconciler, Risk, Sentinel, faults_of_reconciler, faults_of_risk
from config.pretrade import PreTrade
from config.section import Section


class SettingsError(ValueError):
    """A setting that cannot be; the text names its key, its value, what is allowed and the remedy."""


class Run(Section, frozen=True):
    """`run_dir` holds all that a run keeps. `live` asks for every value that touches money to be given, and for the
    words of `config.interlock.interlock_text` in `live_interlock`. `tree`: `flatten` is the broker, what reads it, and
    risk, and nothing that opens positions; `run.py flatten` starts that by itself."""

    mode: Literal["paper", "live"] = "paper"
    tree: Literal["whole", "flatten"] = "whole"
    live_interlock: str = ""
    run_dir: Folder = "run"
    snapshot_every: PositiveCount = 1_000
    trace: bool = True
    trace_mb_max: Megabytes = 64
    lines_mb_max: Megabytes = 64
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class Ledger(Section, frozen=True):
    """No URL: servers of our own in the run directory. `password_file` rather than a password, which is nowhere."""

    url: str = ""
    bus_url: str = ""
    accept_less_durability: bool = False
    password_file: str = ""
    ledger_mb_max: Megabytes = 1_024
    bus_mb_max: Megabytes = 256


class Fund(Section, frozen=True):
    """Whose money, and how much of it at most. Amounts in the account's currency."""

    name: Name = "apex"
    symbols: Symbols = ("AAPL", "MSFT", "SPY")
    equity: Decimal = Decimal(100_000)
    fraction: Fraction = 0.02
    max_position_notional: Decimal = Decimal(10_000)
    max_gross_notional: Decimal = Decimal(50_000)
    max_open_brackets: PositiveCount = 10


class Supervision(Section, frozen=True):
    """Heartbeats, and the restart budgets of a leaf's supervisor and of the root."""

    heartbeat_s: Seconds = 5.0
    dead_after_s: Seconds = 15.0
    intensity: PositiveCount = 10
    period_s: Seconds = 30.0
    root_intensity: PositiveCount = 20
    root_period_s: Seconds = 60.0
    backoff_s_max: Seconds = 2.0
    stop_timeout_s: Seconds = 5.0


class PaperExchange(Section, frozen=True):
    """The paper exchange: recorded files, or a seeded generator where `record` is empty.

    `balances` (`USDT=10000`, …) of a new account, empty: the exchange's own choice. `bnb_discount`: commission is
    taken in BNB, a quarter off, while there is some.
    """

    port: Port = 0
    seed: Count = 1
    symbols: PositiveCount = 60
    exchange_info: str = ""
    record: tuple[str, ...] = ()
    pace: Rate = 1.0
    rate_per_s: Rate = 2_000.0
    opportunity_every_s: SecondsOrNone = 2.0
    balances: tuple[str, ...] = ()
    commission_bps: Bps = 10.0
    bnb_discount: bool = False


class PaperGateway(Section, frozen=True):
    """The paper gateway. Its stocks are its own; `tick_ms` and `volatility_bps` make their walk; `partial_parent`: what
    becomes of the children of a partly filled parent."""

    port: Port = 0
    control_port: Port = 0
    seed: Count = 1
    walk: bool = True
    tick_ms: Milliseconds = 250
    volatility_bps: Bps = 1.5
    partial_parent: Literal["wait", "follow", "keep"] = "wait"


class Venues(Section, frozen=True):
    """`embedded`: start the paper venues with the engine, and stop them with it."""

    embedded: bool = True
    exchange: PaperExchange = PaperExchange()
    gateway: PaperGateway = PaperGateway()


class Momentum(Section, frozen=True):
    """The built-in source of signals: a move of `threshold_bps` within `lookback_s`."""

    enabled: bool = True
    symbols: Symbols = ("AAPL", "MSFT", "SPY")
    threshold_bps: Bps = 4.0
    lookback_s: Seconds = 5.0
    take_profit_bps: Bps = 20.0
    stop_bps: Bps = 15.0
    ttl_s: Seconds = 30.0


class FaultRule(Section, frozen=True, kw_only=True):
    """Strike at `point` in `role` on the `nth` match of `message` (0: on every) that an incarnation sees.

    At most `times` in all (0: without bound), over all incarnations: each strike is noted in the run directory's
    `faults/` before it is made, so that a crash does not meet its own rule again for ever. Delete that folder to
    arm the plan anew.
    """

    role: str = "*"
    point: Literal[
        "receive",
        "before_append",
        "after_append",
        "before_effect",
        "after_effect",
        "before_send",
        "after_send",
        "before_ack",
        "after_ack",
        "send",
    ]
    message: str = "*"
    nth: Count = 1
    times: Count = 1
    action: Literal["crash", "hang", "ledger_away", "drop", "delay", "duplicate", "reorder"]
    arg_s: SecondsOrNone = 0.0


class Faults(Section, frozen=True):
    """Empty in production, and then not even constructed."""

    plan: tuple[FaultRule, ...] = ()
    seed: Count = 1


class Console(Section, frozen=True):
    """What a terminal shows; without one, a log line every `log_every_s`."""

    refresh_s: Seconds = 0.5
    log_every_s: Seconds = 5.0


class Settings(Section, frozen=True):
    """All of them."""

    run: Run = Run()
    ledger: Ledger = Ledger()
    exchange: Exchange = Exchange()
    execution: Execution = Execution()
    evaluator: Evaluator = Evaluator()
    gateway: Gateway = Gateway()
    fund: Fund = Fund()
    reconciler: Reconciler = Reconciler()
    exits: Exits = Exits()
    sentinel: Sentinel = Sentinel()
    pre_trade: PreTrade = PreTrade()
    risk: Risk = Risk()
    supervision: Supervision = Supervision()
    venues: Venues = Venues()
    momentum: Momentum = Momentum()
    faults: Faults = Faults()
    console: Console = Console()
    alarms: Alarms = Alarms()


EXPLICIT_IN_LIVE = (
    "exchange.rest_url",
    "exchange.ws_url",
    "exchange.fee_bps",
    "evaluator.dry_run",
    "gateway.port",
    "gateway.client_id",
    "gateway.account",
    "fund.name",
    "fund.symbols",
    "fund.equity",
    "fund.fraction",
    "fund.max_position_notional",
    "fund.max_gross_notional",
    "fund.max_open_brackets",
    "risk.daily_loss_max",
    "momentum.enabled",
    "venues.embedded",
)
"""Keys without a default once `run.mode` is `live`."""

Tree = dict[str, object]


def load(path: Path | str | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read a TOML file (none: all defaults), apply `section.key=value` overrides, check, and return all settings.

    A value of an override is read as TOML, and as a plain string where it is none. Raises SettingsError.
    """
    where = str(path) if path else "the defaults"
    tree = _read(Path(path)) if path else {}
    for override in overrides:
        _override(tree, override)
    try:
        settings = msgspec.convert(tree, Settings, strict=True)
    except msgspec.ValidationError as error:
        raise SettingsError(_explained(str(error), tree, where)) from error
    _check(settings, tree, where)
    return settings


def _read(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}. Remedy: name a settings file with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}. Remedy: correct that line") from error


def _override(tree: Tree, override: str) -> None:
    dotted, separator, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not separator or len(keys) < 2 or not all(keys):
        raise SettingsError(f"override {override!r}: must be section.key=value, e.g. exchange.fee_bps=7.5")
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    node = tree
    for part in keys[:-1]:
        below = node.setdefault(part, {})
        if not isinstance(below, dict):
            raise SettingsError(f"override {override!r}: {part} is a value, not a section")
        node = below
    node[keys[-1]] = value


def _explained(error: str, tree: Tree, where: str) -> str:
    """Turn a validation error into key, value, what is allowed, remedy."""
    reason, _, place = error.partition(" - at `")
    dotted = place.rstrip("`").removeprefix("$").lstrip(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", reason)
    if unknown:
        return _unknown(dotted, unknown[1], where)
    missing = re.fullmatch(r"Object missing required field `(.*)`", reason)
    if missing:
        return f"{where}: {dotted}.{missing[1]} is missing. Remedy: give it a value"
    allowed = _choices(dotted) if reason.startswith("Invalid enum value") else reason.removeprefix("Expected ")
    return f"{where}: {dotted} is {_value(tree, dotted)!r}; allowed: {allowed}. Remedy: correct it there, or by --set"


def _unknown(section: str, name: str, where: str) -> str:
    allowed = _fields(section)
    near = difflib.get_close_matches(name, allowed, 1)
    shown = f"{section}.{name}" if section else name
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{where}: {shown} is no setting; {hint}allowed: {', '.join(allowed)}. Remedy: correct or remove it"


def _fields(section: str) -> tuple[str, ...]:
    return _section(section).__struct_fields__


def _choices(dotted: str) -> str:
    section, _, name = dotted.rpartition(".")
    hint = get_type_hints(_section(section))[name.partition("[")[0]]
    literals = [hint, *get_args(hint)]
    choices = [choice for literal in literals if get_origin(literal) is Literal for choice in get_args(literal)]
    return ", ".join(repr(choice) for choice in choices) + (" or a list" if get_origin(hint) is not Literal else "")


def _section(dotted: str) -> type[Section]:
    """Return the type at a dotted place; an element of a list is of the list's element type."""
    found: type[Section] = Settings
    for part in filter(None, dotted.split(".")):
        hint = get_type_hints(found)[part.partition("[")[0]]
        found = next(
            (one for one in (hint, *get_args(hint)) if isinstance(one, type) and issubclass(one, Section)), found
        )
    return found


def _value(tree: Tree, dotted: str) -> object:
    node: object = tree
    for part in re.findall(r"[^.\[\]]+", dotted):
        if isinstance(node, Mapping):
            node = node.get(part, "")
        elif isinstance(node, list) and part.isdigit():
            node = node[int(part)]
    return node


def _check(settings: Settings, tree: Tree, where: str) -> None:
    """What one value alone cannot show."""
    supervision, reconciler = settings.supervision, settings.reconciler
    of_execution = faults_of_execution(settings.execution, settings.exchange)
    of_orders = (
        *faults_of_risk(settings.risk),
        *faults_of_gateway(settings.gateway),
        *faults_of_reconciler(reconciler),
    )
    for fault in (*faults_of(settings.exchange), *of_execution, *of_orders):
        raise SettingsError(f"{where}: {fault}")
    _require(
        supervision.heartbeat_s * 2 <= supervision.dead_after_s,
        f"{where}: supervision.dead_after_s is {supervision.dead_after_s:g}; allowed: at least twice "
        f"supervision.heartbeat_s ({supervision.heartbeat_s:g}). Remedy: raise the one or lower the other",
    )
    _require(
        reconciler.positions_every_s <= reconciler.orders_every_s,
        f"{where}: reconciler.positions_every_s is {reconciler.positions_every_s:g}; allowed: at most "
        f"reconciler.orders_every_s ({reconciler.orders_every_s:g}). Remedy: lower it",
    )
    _require(
        reconciler.grace_s <= reconciler.vanished_grace_s,
        f"{where}: reconciler.vanished_grace_s is {reconciler.vanished_grace_s:g}; allowed: at least "
        f"reconciler.grace_s ({reconciler.grace_s:g}). Remedy: raise the one or lower the other",
    )
    for dotted, amount in (
        ("fund.equity", settings.fund.equity),
        ("fund.max_position_notional", settings.fund.max_position_notional),
        ("fund.max_gross_notional", settings.fund.max_gross_notional),
    ):
        _require(
            amount.is_finite() and 0 < amount <= AMOUNT_MAX,
            f"{where}: {dotted} is {amount}; allowed: above 0, at most {AMOUNT_MAX}. Remedy: correct it there",
        )
    if settings.run.mode == "live":
        _check_live(settings, tree, where)
    mode, gateway = settings.run.mode, settings.gateway
    faults = (
        interlock.gateway_fault(mode, gateway.account, gateway.port, settings.run.live_interlock),
        interlock.exchange_fault(mode, settings.evaluator.dry_run, settings.exchange.rest_url),
    )
    for fault in filter(None, faults):
        raise SettingsError(f"{where}: {fault}")


def _check_live(settings: Settings, tree: Tree, where: str) -> None:
    explicit = EXPLICIT_IN_LIVE if settings.evaluator.dry_run else (*EXPLICIT_IN_LIVE, *EXPLICIT_TO_TRADE)
    absent = [dotted for dotted in explicit if _value(tree, dotted) in ("", [], {})]
    _require(
        not absent,
        f"{where}: run.mode is 'live', and these have no value: {', '.join(absent)}. Remedy: give each one explicitly",
    )
    _require(
        settings.gateway.port > 0,
        f"{where}: gateway.port is 0; allowed with run.mode 'live': 1 to 65535. Remedy: the live gateway's, e.g. 4001",
    )
    _require(
        not settings.venues.embedded,
        f"{where}: venues.embedded is true; allowed with run.mode 'live': false. Remedy: set it, or run.mode = 'paper'",
    )


def _require(holds: bool, error: str) -> None:
    if not holds:
        raise SettingsError(error)
