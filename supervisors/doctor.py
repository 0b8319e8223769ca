"""`run.py doctor`: what this machine and these settings would do to a run, found out before money depends on it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import msgspec

from actors.adapters.identity import IdentityFile
from actors.adapters.inspection import server_faults
from actors.adapters.redis_binary import BinaryRefused, pinned_binary
from config.schema import Settings
from supervisors.guardian import RunDirTaken, RunLock
from supervisors.run_files import NotRunning, read_engine_file, resolved
from supervisors.transport import PortTaken, admin_port

DISK_FREE_MB_MIN = 1_024
FSYNC_MS_MAX = 50.0
DESCRIPTORS_MIN = 1_024


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. `text` has the figure and, where it is not ok, the remedy."""

    name: str
    ok: bool
    text: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; changes nothing but a probe file in the run directory. Takes a second or two."""
    run_dir = Path(settings.run.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return [
        _python(),
        _run_dir(run_dir),
        _disk(run_dir),
        _fsync(run_dir),
        _memory_file_system(),
        _descriptors(),
        _redis_binary(settings, run_dir),
        *_servers(settings),
        _port(run_dir),
        _halt(run_dir),
    ]


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = (3, 11) <= sys.version_info[:2] < (3, 14)
    return Finding(
        "Python", ok, version if ok else f"{version}; Apex needs 3.11 to 3.13. Remedy: make PYTHON=python3.12"
    )


def _run_dir(run_dir: Path) -> Finding:
    try:
        with RunLock(run_dir):
            return Finding("run directory", True, f"{run_dir.resolve()} is free")
    except RunDirTaken as error:
        return Finding("run directory", True, f"an engine runs in it: {error}")
    except OSError as error:
        return Finding(
            "run directory", False, f"{run_dir}: {error.strerror}. Remedy: name another by --set run.run_dir=…"
        )


def _disk(run_dir: Path) -> Finding:
    free_mb = shutil.disk_usage(run_dir).free >> 20
    ok = free_mb >= DISK_FREE_MB_MIN
    return Finding(
        "disk", ok, f"{free_mb} MB free" + ("" if ok else f"; at least {DISK_FREE_MB_MIN}. Remedy: make room")
    )


def _fsync(run_dir: Path) -> Finding:
    """Median of ten appends of 512 bytes, each made durable, as the ledger does."""
    probe = run_dir / ".fsync_probe"
    took_ms = []
    with probe.open("wb") as file:
        for _ in range(10):
            began = time.perf_counter()
            file.write(b"x" * 512)
            file.flush()
            os.fsync(file.fileno())
            took_ms.append((time.perf_counter() - began) * 1e3)
    probe.unlink()
    median = sorted(took_ms)[len(took_ms) // 2]
    ok = median <= FSYNC_MS_MAX
    remedy = "" if ok else f"; at most {FSYNC_MS_MAX:.0f}. Remedy: put the run directory on a local disk"
    return Finding("fsync", ok, f"{median:.2f} ms a durable append{remedy}")


def _memory_file_system() -> Finding:
    there = os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK)
    return Finding("book image", True, "on /dev/shm" if there else "no memory file system: kept in the run directory")


def _descriptors() -> Finding:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    ok = soft >= DESCRIPTORS_MIN
    return Finding("open files", ok, f"{soft} allowed" + ("" if ok else ". Remedy: ulimit -n 65536"))


def _redis_binary(settings: Settings, run_dir: Path) -> Finding:
    if settings.ledger.url and settings.ledger.bus_url:
        return Finding("Redis server", True, "both are configured by URL")
    try:
        binary = pinned_binary(run_dir)
    except BinaryRefused as error:
        return Finding("Redis server", False, str(error))
    return Finding("Redis server", True, f"{binary.version} at {binary.path}")


def _servers(settings: Settings) -> list[Finding]:
    """Servers that are configured, or those of the engine that runs."""
    try:
        settings = resolved(settings, read_engine_file(settings))
    except NotRunning:
        if not settings.ledger.url:
            return []
    found = []
    for name, url in (("ledger", settings.ledger.url), ("bus", settings.ledger.bus_url)):
        if url:
            fault = server_faults(name, url, settings)
            found.append(Finding(name, not fault, fault or "answers, with the settings it needs"))
    return found


def _port(run_dir: Path) -> Finding:
    try:
        return Finding("actor system's port", True, f"{admin_port(run_dir)} on the loopback")
    except PortTaken as error:
        return Finding("actor system's port", False, f"{error}. Remedy: end that process, or use another run directory")


def _halt(run_dir: Path) -> Finding:
    halt = IdentityFile(run_dir / "identity.json").halt()
    if halt is None:
        return Finding("halt", True, "none")
    return Finding("halt", False, f"{halt.reason} (by {halt.by}). Remedy: understand it, then `run.py resume`")
