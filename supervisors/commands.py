"""The commands of `run.py` that look at, or speak to, a running engine. Each returns what is to be printed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from actors.adapters.bus_streams import publish_signal
from actors.adapters.executor_driver import write_resume
from actors.adapters.identity import IdentityFile
from actors.adapters.inspection import EngineAway, Inspector, ServerAway
from actors.adapters.redis_client import Purpose, connect
from actors.broker_watch import uptime_text
from actors.chain import chain_of, chain_text, chrome_trace
from actors.messages import CyclesResumed
from actors.signal_form import SignalFormError, parse_signal
from config.schema import Settings
from supervisors.run_files import read_engine_file, resolved
from supervisors.spec import ChildSpec
from supervisors.status import ActorAlarm, EngineStatus, read_status
from supervisors.tree import build_tree


def status_json(settings: Settings) -> str:
    """The whole status as one JSON object."""
    return msgspec.json.encode(read_status(settings)).decode()


def status_text(settings: Settings) -> str:
    """The status for a person without the console."""
    return render_status(read_status(settings))


def render_status(status: EngineStatus) -> str:
    """A plain table: process, pid, parent, state, restarts, incarnation, last beat."""
    state = "running" if status.running else "NOT RUNNING"
    head = f"engine {state} · run {status.run_id[:8]} · up {status.uptime_s:.0f} s"
    lines = [head + (" · DRY RUN (opportunities are only written down)" if status.dry_run else "")]
    halt = status.halt
    lines.append(f"halt: {halt.reason} (by {halt.by})" if halt is not None else "halt: none")
    if halt is not None and halt.flatten_ns:
        lines.append(
            f"flatten: {halt.flatten} (by {halt.flatten_by}): {status.detail.get('risk', {}).get('flatten', '')}"
        )
    gate = {name: value for name, value in status.gate.items() if name != "gate"}
    lines.append(f"gate: {status.gate.get('gate', 'not reported')}" + "".join(f", {k} {v}" for k, v in gate.items()))
    lines += [f"gateway of {role}: {found.standing}, {uptime_text(found)}" for role, found in status.gateways.items()]
    if "executor" in status.detail:
        lines.append("cycles: " + ", ".join(f"{name} {value}" for name, value in status.detail["executor"].items()))
    lines.append(f"{'role':<18}{'pid':>8}  {'parent':<14}{'state':<10}{'restarts':>8}{'incarnation':>13}{'beat':>8}")
    for one in status.processes:
        beat = "" if one.last_beat_age_s is None else f"{one.last_beat_age_s:.1f} s"
        lines.append(
            f"{one.role:<18}{one.pid:>8}  {one.parent:<14}{one.state:<10}"
            f"{one.restarts:>8}{one.incarnation:>13}{beat:>8}"
        )
    lines += [f"ALARM {one.role}: {one.alarm.name}{_waits(one)}: {one.alarm.text}" for one in status.alarms]
    return "\n".join(lines)


def _waits(one: ActorAlarm) -> str:
    return " (until acknowledged: run.py alarms --ack)" if one.alarm.for_a_person else ""


def send_signals(settings: Settings, path: str) -> str:
    """Publish the signal, or the JSON array or lines of signals, of a file; return what the bus called them.

    All are checked before the first is published. Raises SignalFormError naming the field, NotRunning, EngineAway.
    """
    found = resolved(settings, read_engine_file(settings))
    now_ns = time.time_ns()
    signals = [parse_signal(item, now_ns) for item in _items(path)]
    client = connect(found.ledger.bus_url, Purpose.BUS, found)
    try:
        return "\n".join(f"{signal.signal_id} {publish_signal(client, signal)}" for signal in signals)
    except ServerAway as error:
        raise EngineAway(
            f"the engine's Redis does not answer ({error}). Remedy: start the engine with `make run`, then send the "
            "file again: a signal that was taken already is not taken twice"
        ) from error
    finally:
        client.close()


def _items(path: str) -> list[bytes]:
    """The JSON texts of a file's signals, untouched: a price that went through a float would be another."""
    try:
        text = Path(path).read_bytes().strip()
    except OSError as error:
        raise SignalFormError(f"{path}: {error.strerror}. Remedy: name a file that holds a signal") from error
    if not text:
        raise SignalFormError(f"{path} holds no signal. Remedy: see docs/signals.md")
    try:
        if text.startswith(b"["):
            return [bytes(item) for item in msgspec.json.decode(text, type=list[msgspec.Raw])]
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return [line for line in text.splitlines() if line.strip()]
    return [text]


class NoReason(ValueError):
    """A halt that says nothing to whoever finds it."""

    exit_code = 64


def reason_of(reason: str, command: str) -> str:
    """Return it. Raises NoReason."""
    if not reason.strip():
        raise NoReason(f'a {command} needs a reason. Remedy: run.py {command} "what a person should know who finds it"')
    return reason


def halt(settings: Settings, reason: str) -> str:
    """Latch a halt: it outlives restarts and the loss of Redis, until `resume`. Raises NoReason."""
    latched = _identity(settings).latch_halt(reason_of(reason, "halt"), who())
    return f"halted: {latched.reason} (by {latched.by}); nothing opens risk until `run.py resume`"


def resume(settings: Settings) -> str:
    """Clear the halt, by a person's word only."""
    cleared = _identity(settings).clear_halt(who())
    if cleared is None:
        return "there was no halt"
    ended = f"; flatten ended: {cleared.flatten} (by {cleared.flatten_by})" if cleared.flatten_ns else ""
    return f"halt cleared: {cleared.reason} (by {cleared.by}){ended}"


def cycles_resume(settings: Settings, reason: str) -> str:
    """A person's word that cycles may go on: clears the breaker, takes the account as it is. Raises NoReason."""
    if not reason.strip():
        raise NoReason('a word of a person needs a reason. Remedy: run.py cycles-resume "what was looked at"')
    read_engine_file(settings)
    write_resume(Path(settings.run.run_dir), CyclesResumed(time.time_ns(), f"{reason} ({who()})"))
    return "told the executor: the breaker is cleared, and the account as it is now taken for right, within a second"


def _identity(settings: Settings) -> IdentityFile:
    read_engine_file(settings)
    return IdentityFile(Path(settings.run.run_dir) / "identity.json")


def who() -> str:
    """Whoever types."""
    return f"{os.environ.get('USER', 'uid ' + str(os.getuid()))} at a terminal"


def trace(settings: Settings, wanted: str, chrome: str | None) -> str:
    """The chain of a signal, intent, order or execution, as a tree; `chrome`: also as a file for a trace viewer."""
    found = resolved(settings, read_engine_file(settings))
    roles = [spec.role for spec in build_tree(found).walk() if isinstance(spec, ChildSpec)]
    with Inspector(found) as inspector:
        links = chain_of(wanted, inspector.journals(roles))
    if not links:
        raise UnknownId(
            f"{wanted!r} stands in no journal entry that is kept. Remedy: take an id from `run.py orders`; "
            "entries below the older of two snapshots are trimmed, their lines stand under trace/ and lines/"
        )
    if chrome:
        Path(chrome).write_bytes(chrome_trace(links))
    return chain_text(links)


class UnknownId(LookupError):
    """No journal entry names it."""
