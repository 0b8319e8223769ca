"""Processes named so that a reused pid is never mistaken for them, watched, killed, and tied to their parent.

One interface, two implementations: `LinuxLifeline` (pidfd, PR_SET_PDEATHSIG) and `PollingLifeline` (psutil, getppid),
which stands wherever the kernel offers neither, and everywhere with APEX_LIFELINE=polling in the environment. The
polling one is tested on Linux, with a whole engine on it; on macOS it is untested.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from typing import IO, Protocol

import msgspec
import psutil  # type: ignore[import-untyped]

POLL_S = 0.05
VARIABLE = "APEX_LIFELINE"
NATIVE_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)
_PR_SET_PDEATHSIG = 1
_DEAD_STATES = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A pid and when its process began, which together name one process for ever."""

    pid: int
    started_at: str
    """Linux: boot id and start in clock ticks since boot. Elsewhere: the kernel's start time. Only equality means
    anything."""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The process that has this pid now; a zombie still counts.

        Raises:
            ProcessLookupError: nobody has it.
        """
        return LIFELINE.identity(pid)

    @classmethod
    def children_of(cls, pid: int) -> tuple[ProcessIdentity, ...]:
        """The children it has now, zombies included; none if it is gone."""
        found = []
        try:
            for child in psutil.Process(pid).children():
                with contextlib.suppress(ProcessLookupError):
                    found.append(LIFELINE.identity(child.pid))
        except psutil.NoSuchProcess:
            return ()
        return tuple(found)

    def is_alive(self) -> bool:
        """Whether this very process runs; zombies and later owners of its pid do not count."""
        return LIFELINE.is_alive(self)


class Lifeline(Protocol):
    """What the platform offers."""

    @property
    def watches_without_thread(self) -> bool:
        """Whether a watch leaves this process single-threaded, as one that forks must be."""

    def identity(self, pid: int) -> ProcessIdentity:
        """See `ProcessIdentity.of`."""

    def is_alive(self, identity: ProcessIdentity) -> bool:
        """Whether this very process runs; zombies and later owners of its pid do not count."""

    def kill_if_same(self, identity: ProcessIdentity, number: signal.Signals) -> bool:
        """Signal this very process; False, and nobody signalled, if it is gone.

        Raises:
            PermissionError: it belongs to somebody else.
        """

    def open_watch(self, identity: ProcessIdentity) -> int | None:
        """A new descriptor that turns readable, for good, once this very process ended or if it is gone already.

        None where that would take a thread that is not wanted: then the watch has to be asked.
        """

    def die_with_parent(self, parent_pid: int) -> None:
        """From now on this process dies by SIGKILL when its parent does; at once, if that happened already.

        `parent_pid` must come from the parent itself: asked for here, it might already be somebody else's.
        """


class PollingLifeline:
    """For any platform psutil knows. Between comparing and signalling a pid there is a gap of microseconds.

    `threads`: let a thread poll for each watch. A process that forks has none, and asks its watches from its loop.
    """

    watches_without_thread = False

    def __init__(self, threads: bool = True) -> None:
        self._threads = threads

    def identity(self, pid: int) -> ProcessIdentity:
        try:
            return ProcessIdentity(pid, f"{psutil.Process(pid).create_time():.3f}")
        except psutil.NoSuchProcess as error:
            raise ProcessLookupError(f"no process {pid}") from error

    def is_alive(self, identity: ProcessIdentity) -> bool:
        try:
            return self.identity(identity.pid) == identity and psutil.Process(identity.pid).status() not in _DEAD_STATES
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    def kill_if_same(self, identity: ProcessIdentity, number: signal.Signals) -> bool:
        if not self.is_alive(identity):
            return False
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return False
        return True

    def open_watch(self, identity: ProcessIdentity) -> int | None:
        if not self._threads:
            return None
        reader, writer = os.pipe()
        threading.Thread(target=_poll_process, args=(self, identity, writer), name="lifeline", daemon=True).start()
        return reader

    def die_with_parent(self, parent_pid: int) -> None:
        # The thread only sleeps and asks for the parent's pid: it holds no lock that a fork could copy.
        if os.getppid() != parent_pid:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Thread(target=_poll_parent, args=(parent_pid,), name="lifeline", daemon=True).start()


def _poll_parent(parent_pid: int) -> None:
    pause = threading.Event()
    while os.getppid() == parent_pid:
        pause.wait(POLL_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _poll_process(lifeline: Lifeline, identity: ProcessIdentity, writer: int) -> None:
    pause = threading.Event()
    while lifeline.is_alive(identity):
        pause.wait(POLL_S)
    # A byte, not only the end of the pipe: a forked child holds a copy of the writer and would keep it open.
    with contextlib.suppress(BrokenPipeError):
        os.write(writer, b"!")
    os.close(writer)


if sys.platform == "linux":

    class LinuxLifeline:
        """By pidfd: a descriptor names the process itself, so that nothing can slip in between look and signal."""

        watches_without_thread = True

        def __init__(self) -> None:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                self._boot_id = file.read().strip()

        def identity(self, pid: int) -> ProcessIdentity:
            return ProcessIdentity(pid, f"{self._boot_id}:{_stat(pid)[1]}")

        def is_alive(self, identity: ProcessIdentity) -> bool:
            try:
                state, ticks = _stat(identity.pid)
            except ProcessLookupError:
                return False
            return state not in "ZX" and identity.started_at == f"{self._boot_id}:{ticks}"

        def kill_if_same(self, identity: ProcessIdentity, number: signal.Signals) -> bool:
            try:
                descriptor = os.pidfd_open(identity.pid)
            except ProcessLookupError:
                return False
            try:
                # Compared after the descriptor was taken: if they agree now, it is the descriptor's process.
                if not self.is_alive(identity):
                    return False
                signal.pidfd_send_signal(descriptor, number)
            except ProcessLookupError:
                return False
            finally:
                os.close(descriptor)
            return True

        def open_watch(self, identity: ProcessIdentity) -> int:
            try:
                descriptor = os.pidfd_open(identity.pid)
            except ProcessLookupError:
                return _ended_descriptor()
            with contextlib.suppress(ProcessLookupError):
                # Also true of a zombie, whose pidfd is readable anyway.
                if self.identity(identity.pid) == identity:
                    return descriptor
            os.close(descriptor)
            return _ended_descriptor()

        def die_with_parent(self, parent_pid: int) -> None:
            if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
            # The parent may have died before the line above; then no signal will come.
            if os.getppid() != parent_pid:
                os.kill(os.getpid(), signal.SIGKILL)

    def _stat(pid: int) -> tuple[str, str]:
        """State letter and start in clock ticks since boot, from /proc/PID/stat (proc(5), fields 3 and 22)."""
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                line = file.read()
        except (FileNotFoundError, ProcessLookupError) as error:
            raise ProcessLookupError(f"no process {pid}") from error
        # The name, in parentheses, may hold anything, parentheses included: count from its end.
        fields = line[line.rindex(b")") + 2 :].split()
        return fields[0].decode(), fields[19].decode()

    def _ended_descriptor() -> int:
        """Readable from the start: a pipe whose writer is gone."""
        reader, writer = os.pipe()
        os.close(writer)
        return reader

    LIFELINE: Lifeline = PollingLifeline(False) if os.environ.get(VARIABLE) == "polling" else LinuxLifeline()
else:
    LIFELINE: Lifeline = PollingLifeline(False)


class ProcessWatch:
    """Knows whether one process still runs; for a `select` of any kind."""

    def __init__(self, identity: ProcessIdentity, lifeline: Lifeline | None = None) -> None:
        self.identity = identity
        self._lifeline = LIFELINE if lifeline is None else lifeline
        descriptor = self._lifeline.open_watch(identity)
        self._writer: int | None = None
        if descriptor is None:
            descriptor, self._writer = os.pipe()
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Readable, for good, once the process ended; without a thread, once `gone` found it so. Never read from it."""
        return self._descriptor

    def gone(self) -> bool:
        """Whether it ended (a zombie has ended). Does not block."""
        if self._writer is not None and not self._lifeline.is_alive(self.identity):
            # A byte, not only the end of the pipe: a forked child holds a copy of the writer.
            os.write(self._writer, b"!")
            os.close(self._writer)
            self._writer = None
        return self._readable_within(0.0)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False if it has not come in time."""
        deadline = time.monotonic() + timeout_s
        while self._writer is not None:
            if self.gone():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return self._readable_within(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Let go of the descriptors."""
        os.close(self._descriptor)
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    def _readable_within(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether this very process runs; zombies and later owners of its pid do not count."""
    return LIFELINE.is_alive(identity)


def kill_if_same(identity: ProcessIdentity, number: signal.Signals = signal.SIGKILL) -> bool:
    """Signal this very process; False, and nobody signalled, if it is gone."""
    return LIFELINE.kill_if_same(identity, number)


def die_with_parent(parent_pid: int) -> None:
    """From now on this process dies by SIGKILL when its parent does. `parent_pid` must come from the parent itself."""
    LIFELINE.die_with_parent(parent_pid)


def native_faults_default(file: IO[str] | None = None) -> None:
    """Let native faults kill the process again, after a traceback into `file` (default: stderr).

    The actor system traps them in a Python handler, which a fault in native code never reaches: the process then
    faults for ever at full speed and nobody is told.
    """
    # Enabled already in the process we were forked from, it would take itself for installed and do nothing.
    faulthandler.disable()
    for number in NATIVE_FAULTS:
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable(sys.stderr if file is None else file)
