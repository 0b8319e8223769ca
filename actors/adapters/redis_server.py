"""Redis servers of our own: one of a kind in a run directory, on a Unix socket, in a session of its own.

Ctrl-C in the terminal does not reach them; they end when told. Before one starts, whatever still runs on the same
directory is ended: two servers on one append-only file would destroy it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]

from actors.adapters.redis_binary import Binary, BinaryRefused, pinned_binary
from actors.adapters.redis_client import (
    Purpose,
    ServerKind,
    SettingsRefused,
    check_settings,
    connect,
    probe,
    redacted,
)

__all__ = [
    "BinaryRefused",
    "EmbeddedRedis",
    "Purpose",
    "ServerFailed",
    "ServerKind",
    "SettingsRefused",
    "check_settings",
    "connect",
    "probe",
    "redacted",
    "socket_path",
]

SOCKET_PATH_BYTES_MAX = 100
"""The kernel's limit is 108 on Linux and 104 on macOS, the closing zero included."""

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0
LOG_BYTES_MAX = 4 << 20

_FSYNC = {ServerKind.LEDGER: "always", ServerKind.BUS: "everysec"}
_MEMORY_MB = {ServerKind.LEDGER: 1024, ServerKind.BUS: 256}


class ServerFailed(RuntimeError):
    """The server did not start, did not load its file, or would not end."""


class ServerProcess(msgspec.Struct, frozen=True):
    """A process, told from a later one of the same pid by when it was created."""

    pid: int
    created_s: float


class EmbeddedRedis:
    """The server of one kind in `directory`; its files are in `directory/<kind>/`. Blocking, for one thread."""

    def __init__(self, kind: ServerKind | str, directory: Path | str, memory_mb_max: int = 0) -> None:
        self.kind = ServerKind(kind)
        self.directory = Path(directory).resolve()
        self.data = self.directory / self.kind.value
        self.socket = socket_path(self.kind, self.directory)
        self.memory_mb_max = memory_mb_max or _MEMORY_MB[self.kind]
        self._child: subprocess.Popen[bytes] | None = None
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        """What `connect` takes: without a password, whatever other servers of the settings have."""
        return f"unix://:@{urllib.parse.quote(str(self.socket))}"

    @property
    def pid(self) -> int:
        """Pid of the server that this object started, 0 before."""
        return self._process.pid if self._process else 0

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start it and return once it serves, its file loaded. Raises ServerFailed, BinaryRefused."""
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.stop_leftover()
        if self.socket.parent != self.directory:
            _make_private(self.socket.parent)
        binary = pinned_binary(self.directory)
        self._refuse_newer_files(binary)
        self.bound_log()
        configuration = self.data / "redis.conf"
        configuration.write_text(self._configuration())
        self._child = subprocess.Popen(
            [binary.path, str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.data,
            start_new_session=True,
        )
        self._process = ServerProcess(self._child.pid, _created_s(self._child.pid))
        _replace(self._record_path, msgspec.json.encode(self._process))
        self._wait_ready(timeout_s)

    def alive(self) -> bool:
        """Whether the process that this object started still runs; reaps it if it has ended."""
        return self._child is not None and self._child.poll() is None

    def kill(self) -> None:
        """End a server that hangs, at once; its file is as durable as its kind promises."""
        if self.alive() and self._child is not None:
            self._child.kill()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it, its file synced; kill it if it does not end in time. No error if it has ended."""
        if self._child is None:
            self.stop_leftover(timeout_s)
            return
        if self.alive():
            self._child.terminate()  # as SHUTDOWN, but heard without a connection or a password
            try:
                self._child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._child.wait(STOP_TIMEOUT_S)
        if self._process and self._recorded() == (self._process.pid, self._process.created_s):
            self._forget()

    def stop_leftover(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """End whatever server still runs on this directory, whoever started it, and return its pid (0: none).

        Only a process is touched that was recorded here, or that listens on our socket, and that runs in our
        directory. Raises ServerFailed if it will not end.
        """
        leftover = self._leftover()
        if leftover is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                leftover.terminate()
                try:
                    leftover.wait(timeout_s)
                except psutil.TimeoutExpired:
                    leftover.kill()
            try:
                leftover.wait(STOP_TIMEOUT_S)
            except psutil.TimeoutExpired as error:
                raise ServerFailed(
                    f"the {self.kind} server of an earlier run (pid {leftover.pid}) does not end. "
                    "Remedy: end it by hand"
                ) from error
        self._forget()
        return leftover.pid if leftover is not None else 0

    def bound_log(self) -> None:
        """Put an overgrown log aside; at most two are kept. Safe while the server runs: it opens its log anew."""
        log = self.data / "redis.log"
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(self.data / "redis.log.1")

    # ---- inside

    @property
    def _record_path(self) -> Path:
        return self.data / "process.json"

    def _configuration(self) -> str:
        return "\n".join(
            [
                "port 0",
                f"unixsocket {_quoted(self.socket)}",
                "unixsocketperm 700",
                f"dir {_quoted(self.data)}",
                f"logfile {_quoted(self.data / 'redis.log')}",
                "loglevel notice",
                "daemonize no",
                "databases 1",
                'save ""',
                "appendonly yes",
                f"appendfsync {_FSYNC[self.kind]}",
                "no-appendfsync-on-rewrite no",
                "aof-load-truncated yes",
                "auto-aof-rewrite-min-size 64mb",
                f"maxmemory {self.memory_mb_max}mb",
                "maxmemory-policy noeviction",
                "",
            ]
        )

    def _wait_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not probe(self.url):
            if not self.alive():
                raise ServerFailed(
                    f"the {self.kind} server ended at its start; its log says: {self._last_words()}. Remedy: if it is "
                    f"its append-only file, back up {self.data} and run redis-check-aof on it"
                )
            if time.monotonic() > deadline:
                self.stop()
                raise ServerFailed(
                    f"the {self.kind} server did not serve within {timeout_s:g} s; its log says: {self._last_words()}"
                )
            time.sleep(0.005)

    def _last_words(self) -> str:
        try:
            lines = (self.data / "redis.log").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "nothing"
        return " | ".join(line.strip() for line in lines[-4:])

    def _leftover(self) -> psutil.Process | None:
        for pid, created_s in (self._recorded(), (_listener_pid(self.socket), 0.0)):
            try:
                process = psutil.Process(pid) if pid > 0 else None
                if process is None or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if created_s and abs(process.create_time() - created_s) > 0.01:
                    continue
                if "redis" in process.name() and Path(process.cwd()) == self.data:
                    return process
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return None

    def _recorded(self) -> tuple[int, float]:
        try:
            record = msgspec.json.decode(self._record_path.read_bytes(), type=ServerProcess)
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            return 0, 0.0
        return record.pid, record.created_s

    def _forget(self) -> None:
        self._record_path.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)
        if self.socket.parent != self.directory:
            with contextlib.suppress(OSError):  # the other kind's socket may be there still
                self.socket.parent.rmdir()

    def _refuse_newer_files(self, binary: Binary) -> None:
        if (self.data / "appendonlydir").is_dir() and binary.series < (7, 0):
            raise BinaryRefused(
                f"{self.data} was written by Redis 7 or newer; {binary.path} is {binary.version} and would open it as "
                "empty. Remedy: put the newer redis-server first on PATH, or start with --fresh"
            )


def socket_path(kind: ServerKind | str, directory: Path | str) -> Path:
    """Return where a kind's socket is: in the run directory, or, where that path is too long for a socket, in a
    directory of this user's own under the system's temporary one, named by the run directory's hash.
    """
    resolved = Path(directory).resolve()
    path = resolved / f"{ServerKind(kind).value}.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    name = hashlib.blake2b(os.fsencode(resolved), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"apex-{os.getuid()}-{name}" / path.name


def _make_private(directory: Path) -> None:
    """Make a directory under the shared temporary one; refuse one that another user made or may write in."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ServerFailed(
            f"{directory} is not a directory of this user alone; the server's socket goes there because the run "
            "directory's path is too long for one. Remedy: remove it, or use a run directory with a shorter path"
        )


def _listener_pid(path: Path) -> int:
    """Pid of whoever listens on the socket, even if it is stopped; 0 if nobody, or where the system does not say."""
    if not sys.platform.startswith("linux"):
        return 0
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.25)
        try:
            client.connect(os.fsencode(path))
        except OSError:
            return 0
        pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def _created_s(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def _replace(path: Path, payload: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(payload)
    temporary.replace(path)


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
