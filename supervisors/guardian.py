"""What the guardian process is made of: the run directory's lock, the engine as a forked child, the session's record.

The guardian is single-threaded, because it forks; and it forks the engine anew each time, because the actor system
is a singleton of its process and cannot be started twice in one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil  # type: ignore[import-untyped]

from supervisors.lifeline import ProcessIdentity, ProcessWatch, kill_if_same
from supervisors.session_record import (
    Cleared,
    SessionRecord,
    StaleProcessesRemain,
    clear_stale,
    holds_open,
    mark_path,
)

__all__ = [
    "Cleared",
    "EngineProcess",
    "RunDirTaken",
    "RunLock",
    "SessionRecord",
    "StaleProcessesRemain",
    "clear_stale",
]

LOCK_NAME = "run.lock"
EXIT_CRASHED = 70
KILL_TIMEOUT_S = 5.0
KILL_POLL_S = 0.02


class RunDirTaken(RuntimeError):
    """Another run holds the run directory; says which, and what to do."""


class RunLock:
    """Held while it is entered: one run a run directory.

    A POSIX record lock (`lockf`): it dies with its process, and unlike `flock` forked children do not inherit it. In
    turn, nothing else in this process may open and close the lock file.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / LOCK_NAME
        self._run_dir = run_dir
        self._descriptors: list[int] = []

    def __enter__(self) -> RunLock:
        """Raises RunDirTaken at once."""
        self._run_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            holder = os.read(descriptor, 64).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise RunDirTaken(
                f"{self._run_dir} is in use by the run with pid {holder}. "
                f"Remedy: stop it (kill {holder}), or give this run a directory of its own (--set run.run_dir=…)."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptors = [descriptor, self._open_mark()]
        return self

    def _open_mark(self) -> int:
        """Held open until the end, here and in all forked from here: see `session_record`."""
        mark = mark_path(self._run_dir, ProcessIdentity.of(os.getpid()))
        mark.parent.mkdir(exist_ok=True)
        return os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mark_path(self._run_dir, ProcessIdentity.of(os.getpid())).unlink(missing_ok=True)
        while self._descriptors:
            os.close(self._descriptors.pop())


class EngineProcess:
    """One life of the engine: a forked child, leader of its own session, and all that is forked from it.

    Its report pipe doubles as proof of descent: whatever is forked from the child holds the pipe's writing end, so
    that its end of file means that nothing of this engine is left.
    """

    def __init__(self, identity: ProcessIdentity, report: int) -> None:
        self.identity = identity
        self._report = report
        self._pipe_name = f"pipe:[{os.fstat(report).st_ino}]"
        self._report_ended = False
        self._watches = [ProcessWatch(identity)]
        self._sessions = {identity.pid}
        self._exit_status: int | None = None

    @classmethod
    def start(cls, body: Callable[[int], int]) -> EngineProcess:
        """Fork; the child runs `body(report descriptor)` and exits with what it returns, or with 70 if it raises.

        The child starts with default signal handling, nothing blocked, and without the guardian's sockets.

        Raises:
            RuntimeError: this process has other threads, whose locks the child would inherit for ever.
        """
        if threading.active_count() != 1:
            names = [thread.name for thread in threading.enumerate()]
            raise RuntimeError(f"the guardian must have one thread when it forks the engine; it has {names}")
        report, writer = os.pipe()
        os.set_blocking(report, False)
        sys.stdout.flush()
        sys.stderr.flush()
        told, has_session = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(report)
            os.close(told)
            _become_engine(body, writer, has_session)
        os.close(writer)
        os.close(has_session)
        # Ends when the child has its session (or has died): whoever asks for its session from now on gets that one.
        os.read(told, 1)
        os.close(told)
        return cls(ProcessIdentity.of(pid), report)

    def watch_also(self, *identities: ProcessIdentity) -> None:
        """Take the end of these (root, admin) for the end of the engine; their sessions are the engine's."""
        known = {watch.identity for watch in self._watches}
        for identity in identities:
            if identity in known:
                continue
            self._watches.append(ProcessWatch(identity))
            # One that is gone already needs no session: its watch says so at once.
            with contextlib.suppress(ProcessLookupError):
                self._sessions.add(os.getsid(identity.pid))

    def descriptors(self) -> list[int]:
        """For `select`: news of the report, or the end of something watched."""
        watched = [watch.fileno() for watch in self._watches]
        return watched if self._report_ended else [self._report, *watched]

    def read_report(self) -> bytes:
        """What the engine has written since; does not block."""
        parts = []
        while not self._report_ended:
            try:
                part = os.read(self._report, 65536)
            except BlockingIOError:
                break
            self._report_ended = not part
            parts.append(part)
        return b"".join(parts)

    def gone(self) -> bool:
        """Whether the child or anything watched with it has ended."""
        return any(watch.gone() for watch in self._watches)

    def stop(self, timeout_s: float) -> int | None:
        """SIGTERM to the child, time to end in order, then `kill_session`. Returns the child's exit code, if any."""
        kill_if_same(self.identity, signal.SIGTERM)
        if self._watches:
            self._watches[0].wait(timeout_s)
        return self.kill_session()

    def kill_session(self) -> int | None:
        """Kill everything forked from the child, wait until it is gone, let go of all descriptors.

        Returns the child's exit code; negative is the signal that ended it. To be called once, last.

        Raises:
            StaleProcessesRemain: something survives SIGKILL.
        """
        # The child is reaped last: until then its pid, which names the session, cannot be anybody else's.
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while found := self._left():
            for identity in found:
                kill_if_same(identity, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise StaleProcessesRemain(f"of the engine, {[one.pid for one in found]} do not end by SIGKILL")
            time.sleep(KILL_POLL_S)
        self._reap()
        while self._watches:
            self._watches.pop().close()
        if self._report >= 0:
            os.close(self._report)
            self._report, self._report_ended = -1, True
        return self._exit_status

    def _left(self) -> list[ProcessIdentity]:
        found = []
        own = os.getpid()
        for pid in psutil.pids():
            if pid != own and (self._in_session(pid) or (self._report >= 0 and holds_open(pid, self._pipe_name))):
                with contextlib.suppress(ProcessLookupError):
                    identity = ProcessIdentity.of(pid)
                    if identity.is_alive():
                        found.append(identity)
        return found

    def _in_session(self, pid: int) -> bool:
        try:
            return os.getsid(pid) in self._sessions
        except (ProcessLookupError, PermissionError):
            return False

    def _reap(self) -> None:
        if self._exit_status is None:
            with contextlib.suppress(ChildProcessError):
                _, status = os.waitpid(self.identity.pid, 0)
                self._exit_status = os.waitstatus_to_exitcode(status)


def _become_engine(body: Callable[[int], int], report: int, has_session: int) -> None:
    """The child's whole life; never returns into the guardian's code."""
    code = EXIT_CRASHED
    try:
        os.setsid()
        os.close(has_session)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        _let_go_of_sockets()
        code = body(report)
    except BaseException:  # noqa: BLE001  it ends the process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _let_go_of_sockets() -> None:
    """Put /dev/null in their place rather than closing them: the objects that own the numbers may still close them."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2 and stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                os.dup2(null, int(name), inheritable=False)
    os.close(null)
