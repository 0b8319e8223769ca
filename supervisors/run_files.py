"""What a running engine writes down for those who look at it from outside: `run_dir/engine.json`."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from config.schema import Settings
from supervisors.lifeline import ProcessIdentity


class NotRunning(RuntimeError):
    """No engine serves this run directory."""

    exit_code = 69


class ProcessNote(msgspec.Struct, frozen=True):
    """A process of the guardian's own."""

    role: str
    pid: int
    restarts: int


class EngineFile(msgspec.Struct, frozen=True):
    """Where everything is. URLs of servers that were configured stay in the configuration: they may hold a password."""

    run_id: str
    pid: int
    started_ns: int
    guardian: ProcessIdentity | None = None
    ledger_url: str = ""
    bus_url: str = ""
    rest_url: str = ""
    ws_url: str = ""
    api_key_file: str = ""
    gateway_port: int = 0
    gateway_control_port: int = 0
    engine_starts: int = 0
    dry_run: bool = True
    processes: tuple[ProcessNote, ...] = ()


def engine_file(settings: Settings) -> Path:
    """Path of the file in the settings' run directory."""
    return Path(settings.run.run_dir) / "engine.json"


def write_engine_file(settings: Settings, content: EngineFile) -> None:
    """Replace the file at once; readers see the old or the new one, whole."""
    path = engine_file(settings)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(content))
    temporary.replace(path)


def read_engine_file(settings: Settings) -> EngineFile:
    """Read it. Raises NotRunning with the remedy."""
    path = engine_file(settings)
    try:
        return msgspec.json.decode(path.read_bytes(), type=EngineFile)
    except FileNotFoundError:
        raise NotRunning(
            f"no engine has run in {path.parent.resolve()}: {path.name} is not there. "
            "Remedy: start one with `make run`, or name its directory with --set run.run_dir=…"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotRunning(f"{path} cannot be read: {error}. Remedy: start the engine again") from error


def resolved(settings: Settings, found: EngineFile) -> Settings:
    """Settings with the addresses that were left open filled in from the running engine."""
    replace = msgspec.structs.replace
    ledger, exchange, gateway = settings.ledger, settings.exchange, settings.gateway
    return replace(
        settings,
        ledger=replace(ledger, url=ledger.url or found.ledger_url, bus_url=ledger.bus_url or found.bus_url),
        exchange=replace(
            exchange,
            rest_url=exchange.rest_url or found.rest_url,
            ws_url=exchange.ws_url or found.ws_url,
            api_key_file=exchange.api_key_file or found.api_key_file,
        ),
        gateway=replace(
            gateway,
            port=gateway.port or found.gateway_port,
            control_port=gateway.control_port or found.gateway_control_port,
        ),
    )
