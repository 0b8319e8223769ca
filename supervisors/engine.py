"""`run.py run`: the guardian. Keeps Redis, the paper venues and the engine's session running, and guards the root.

Single-threaded: it forks the engine. Holds the run directory's lock for as long as it lives. Nothing of the engine
starts before the ledger serves and is the one that the identity file knows.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import gc
import os
import resource
import select
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from loguru import logger

from actors.adapters.health import HealthBoard
from actors.adapters.identity import IdentityDamaged, IdentityFile
from actors.adapters.image_file import remove_image
from actors.adapters.inspection import ServerAway
from actors.adapters.ledger_check import LedgerRefused, check_ledger, release_owners
from actors.adapters.logs import log_to_file, log_to_terminal
from actors.adapters.market_wiring import check_replay
from actors.adapters.redis_binary import BinaryRefused
from actors.adapters.redis_client import Purpose, ServerKind, SettingsRefused, check_settings, connect, probe
from actors.adapters.redis_server import EmbeddedRedis, ServerFailed
from actors.effects import Severity
from config.schema import Settings, SettingsError
from supervisors.boot import Booted, boot
from supervisors.exit_note import read_exit_note
from supervisors.first_compile import compile_kernels
from supervisors.fresh import RefusedToWipe, refuse_while_halted, wipe
from supervisors.guardian import EngineProcess, RunDirTaken, RunLock, SessionRecord, StaleProcessesRemain, clear_stale
from supervisors.lifeline import ProcessIdentity, kill_if_same
from supervisors.notify import notify
from supervisors.outside import Outside, OutsideFailed
from supervisors.programs import (
    VenueFile,
    VenueLauncher,
    VenueProgram,
    ViewLauncher,
    exchange_arguments,
    gateway_arguments,
)
from supervisors.run_files import EngineFile, ProcessNote, resolved, write_engine_file
from supervisors.session_record import MARKS_NAME
from supervisors.spec import ExitReason
from supervisors.summary import final_summary, status_line
from supervisors.transport import PortTaken, admin_port

TICK_S = 0.25
ENGINE_STARTS_MAX = 20
ENGINE_PERIOD_S = 60.0
HUNG_GRACE_S = 5.0
"""How much later than its children's the root's silence counts: it may be late itself where the machine is loaded."""
BOOT_TIMEOUT_S = 45.0
"""From the fork to the root's first word: what the actor system's start and the root's may take, and a margin."""
PROBE_EVERY_S = 2.0
VENUE_STOP_S = 1.0
ENDED_BY_SIGNAL = ("view", "exchange", "gateway")


REFUSALS = (
    SettingsError,
    RunDirTaken,
    StaleProcessesRemain,
    RefusedToWipe,
    LedgerRefused,
    IdentityDamaged,
    SettingsRefused,
    ServerFailed,
    BinaryRefused,
    OutsideFailed,
    PortTaken,
    ServerAway,
)
"""What ends a start in order, with its text and its remedy, instead of a traceback."""

DISK_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


class ExitCode(enum.IntEnum):
    """What the process says to whoever started it."""

    OK = 0
    FAILED = 1
    USAGE = 64
    NOT_RUNNING = 69
    BUDGET_SPENT = 75
    """Halted and ended; systemd or launchd starts it afresh, still halted."""
    REFUSED = 78
    """Something only a person can settle: a setting, another run on this directory, a foreign ledger."""


class Guardian:
    """One run of the engine, from lock to summary."""

    def __init__(
        self, settings: Settings, view_arguments: list[str] | None, until: Callable[[], bool] | None = None
    ) -> None:
        self.settings = settings
        self._until = until
        self.run_dir = Path(settings.run.run_dir).resolve()
        self.run_id = uuid.uuid4().hex
        self.outside: list[Outside] = []
        self.engine: EngineProcess | None = None
        self.booted: Booted | None = None
        self.starts: list[float] = []
        self._view_arguments = view_arguments
        self._beat_ns = 0
        self._beat_seen = 0.0
        self._looked = 0.0
        self._next_line = 0.0
        self._next_probe = 0.0
        self._answered: dict[str, float] = {}
        self.summary = ""
        self._stop = False
        self._redis: list[EmbeddedRedis] = []
        self._pending = b""
        self._started_ns = time.time_ns()

    # ---- the order of a run

    def run(self, fresh: bool) -> int:
        """Serve until told to stop. Raises what refuses a start (see `run_engine`)."""
        check_replay(self.settings)
        self.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with RunLock(self.run_dir) as lock:
            record = SessionRecord.load(self.run_dir)
            if record is not None:
                for line in clear_stale(record):
                    logger.warning("cleared what an earlier run left: {}", line)
            if fresh:
                refuse_while_halted(self.run_dir)
                for kind in ServerKind:  # once its files are gone, a server that was left can no longer be found
                    EmbeddedRedis(kind, self.run_dir).stop_leftover()
                remove_image(self.run_dir)
                wipe(self.run_dir, keep={lock.path.name, MARKS_NAME})
            shutil.rmtree(self.run_dir / "exits", ignore_errors=True)
            # Before anything is started: what this run starts is known by its id even if it dies at once.
            SessionRecord.of(self.run_id, ()).save(self.run_dir)
            signals = _SignalPipe()
            try:
                with signals.interrupting():
                    self._start_redis()
                    self._start_venues()
                    compile_kernels(self.run_id)
                self._start_engine()
                self._start_view()
                return self._serve(signals)
            except KeyboardInterrupt:
                logger.info("stopped while starting")
                return ExitCode.OK
            finally:
                notify("STOPPING=1")
                self._stop_everything()
                SessionRecord.clear(self.run_dir)

    def _serve(self, signals: _SignalPipe) -> int:
        while not signals.stop_asked:
            code = self._turn(signals)
            if code is not None:
                return code
        logger.info("stopping")
        return ExitCode.OK

    def _turn(self, signals: _SignalPipe) -> int | None:
        """Wait for anything to happen, for at most a tick, and mend it."""
        watched = [signals.descriptor]
        watched += [one.watch.fileno() for one in self.outside if one.watch is not None]
        if self.engine is not None:
            watched += self.engine.descriptors()
        select.select(watched, [], [], TICK_S)
        signals.drain()
        for one in self.outside:
            if one.revive():
                self._write_down()
        self._kill_hung_redis()
        self._read_boot_report()
        if self.engine is not None and (self.engine.gone() or self._root_is_hung()):
            return self._engine_died()
        if self.booted is not None and self.booted.serving:
            notify("WATCHDOG=1")
            self._log_line()
            if self._until is not None and self._until():
                return ExitCode.OK
        return None

    def _log_line(self) -> None:
        """Without a view, say now and then what goes on."""
        if self._view_arguments is None and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + self.settings.console.log_every_s
            logger.info(status_line(self.settings))

    def _start_view(self) -> None:
        if self._view_arguments is None:
            return
        one = Outside("view", ViewLauncher(self._view_arguments))
        one.start()
        self.outside.append(one)

    # ---- Redis and the venues

    def _start_redis(self) -> None:
        ledger = self.settings.ledger
        for kind, url, memory_mb in (
            (ServerKind.LEDGER, ledger.url, ledger.ledger_mb_max),
            (ServerKind.BUS, ledger.bus_url, ledger.bus_mb_max),
        ):
            if url:
                continue
            server = EmbeddedRedis(kind, self.run_dir, memory_mb)
            self._redis.append(server)
            one = Outside(f"redis.{kind.value}", lambda server=server: _start_server(server))  # type: ignore[misc]
            one.start()
            self.outside.append(one)
            self._resolve(**{"url" if kind is ServerKind.LEDGER else "bus_url": server.url})
        self._check_servers()

    def _kill_hung_redis(self) -> None:
        """A server of ours that runs but has not answered for long is ended; its revival is the next turn's."""
        now = time.monotonic()
        if now < self._next_probe:
            return
        self._next_probe = now + PROBE_EVERY_S
        for server in self._redis:
            if probe(server.url):
                self._answered[server.url] = now
                server.bound_log()
            elif now - self._answered.get(server.url, now) > self.settings.supervision.dead_after_s:
                logger.error("redis.{} has not answered for long; killing it", server.kind.value)
                self._answered[server.url] = now
                server.kill()

    def _check_servers(self) -> None:
        settings = self.settings
        identity = IdentityFile(self.run_dir / "identity.json")
        for kind, url in ((ServerKind.LEDGER, settings.ledger.url), (ServerKind.BUS, settings.ledger.bus_url)):
            client = connect(url, Purpose.TOOL, settings)
            for lacking in check_settings(client, kind, settings.ledger.accept_less_durability):
                logger.warning("accepted with less durability: {}", lacking)
            if kind is ServerKind.LEDGER:
                check_ledger(identity, client)
                release_owners(client)
            client.close()

    def _start_venues(self) -> None:
        if not self.settings.venues.embedded:
            return
        venues = self.settings.venues
        exchange = VenueProgram(
            "exchange", self.run_id, self.run_dir, exchange_arguments(self.settings), "exchange.json"
        )
        gateway = VenueProgram("gateway", self.run_id, self.run_dir, gateway_arguments(self.settings), "gateway.json")
        gate = self._start_venue(gateway, venues.gateway.port, venues.gateway.control_port)
        self._resolve(gateway_port=gate.port, gateway_control_port=gate.control_port)
        if self.settings.run.tree == "flatten":
            return
        at = self._start_venue(exchange, venues.exchange.port, None)
        url = f"//127.0.0.1:{at.port}"
        self._resolve(rest_url=f"http:{url}", ws_url=f"ws:{url}", api_key_file=at.api_key_file)

    def _start_venue(self, program: VenueProgram, port: int, control_port: int | None) -> VenueFile:
        one = Outside(program.name, VenueLauncher(program, port, control_port))
        one.start()
        self.outside.append(one)
        address = program.address()
        assert address is not None, "launch returns only once the address is written"
        return address

    def _resolve(self, **found: str | int) -> None:
        renamed = {"url": "ledger_url"}
        values = {renamed.get(name, name): value for name, value in found.items()}
        content = msgspec.convert({"run_id": self.run_id, "pid": os.getpid(), "started_ns": 0, **values}, EngineFile)
        self.settings = resolved(self.settings, content)

    # ---- the engine

    def _start_engine(self) -> None:
        self.starts = [at for at in self.starts if time.monotonic() - at < ENGINE_PERIOD_S] + [time.monotonic()]
        guardian = ProcessIdentity.of(os.getpid())
        port = admin_port(self.run_dir)
        settings, run_id = self.settings, self.run_id
        (self.run_dir / "root.beat").touch()
        self._beat_seen = self._looked = time.monotonic()
        # What is imported stays shared with every process forked from here: no collection touches it there.
        gc.collect()
        gc.freeze()
        self.engine = EngineProcess.start(lambda report: boot(settings, run_id, guardian, port, report))
        self.booted, self._pending = None, b""
        self._write_down()

    def _read_boot_report(self) -> None:
        if self.engine is None:
            return
        self._pending += self.engine.read_report()
        *lines, self._pending = self._pending.split(b"\n")
        for line in lines:
            self.booted = msgspec.json.decode(line, type=Booted)
            self.engine.watch_also(self.booted.root, self.booted.admin)
            self._write_down()
            if self.booted.serving:
                logger.info("the tree serves: root {}, admin {}", self.booted.root.pid, self.booted.admin.pid)
                notify("READY=1\nSTATUS=the tree serves")

    def _root_is_hung(self) -> bool:
        """By how long its beat has not changed on our own clock, less any time in which we did not look ourselves."""
        now, beat_ns = time.monotonic(), (self.run_dir / "root.beat").stat().st_mtime_ns
        if beat_ns != self._beat_ns or now - self._looked > HUNG_GRACE_S:
            self._beat_ns, self._beat_seen = beat_ns, now
        self._looked = now
        silent_s = now - self._beat_seen
        allowed_s = self.settings.supervision.dead_after_s + HUNG_GRACE_S
        if silent_s <= (allowed_s if self.booted is not None else max(allowed_s, BOOT_TIMEOUT_S)):
            return False
        logger.error("root has not beaten for {:.0f} s; killing it", silent_s)
        return True

    def _engine_died(self) -> int | None:
        assert self.engine is not None
        engine, self.engine = self.engine, None
        engine.kill_session()
        note = read_exit_note(str(self.run_dir), "root", 1)
        if note is not None and note.reason is ExitReason.ESCALATED:
            logger.critical("root gave up and halted trading: {}", note.text)
            return ExitCode.BUDGET_SPENT
        if len(self.starts) >= ENGINE_STARTS_MAX:
            text = f"the engine was started {len(self.starts)} times within {ENGINE_PERIOD_S:.0f} s"
            IdentityFile(self.run_dir / "identity.json").latch_halt(text, "run.py")
            HealthBoard(self.settings).alert("run.py", "budget_spent", Severity.CRITICAL, text, True)
            logger.critical("{}; halted, giving up", text)
            return ExitCode.BUDGET_SPENT
        logger.warning("root, admin or their starter is gone; starting the engine anew")
        self._start_engine()
        return None

    # ---- written down, stopped

    def _write_down(self) -> None:
        ledger, exchange, gateway = self.settings.ledger, self.settings.exchange, self.settings.gateway
        own = {server.url for server in self._redis}
        notes = [ProcessNote(one.role, one.identity.pid, one.restarts) for one in self.outside if one.identity]
        if self.engine is not None:
            notes.append(ProcessNote("starter", self.engine.identity.pid, len(self.starts) - 1))
        if self.booted is not None:
            notes.append(ProcessNote("admin", self.booted.admin.pid, len(self.starts) - 1))
            notes.append(ProcessNote("root", self.booted.root.pid, len(self.starts) - 1))
        content = EngineFile(
            run_id=self.run_id,
            pid=os.getpid(),
            started_ns=self._started_ns,
            guardian=ProcessIdentity.of(os.getpid()),
            ledger_url=ledger.url if ledger.url in own else "",
            bus_url=ledger.bus_url if ledger.bus_url in own else "",
            rest_url=exchange.rest_url,
            ws_url=exchange.ws_url,
            api_key_file=exchange.api_key_file,
            gateway_port=gateway.port,
            gateway_control_port=gateway.control_port,
            engine_starts=len(self.starts),
            dry_run=self.settings.evaluator.dry_run,
            processes=tuple(notes),
        )
        write_engine_file(self.settings, content)
        outside = tuple(one.identity for one in self.outside if one.identity is not None)
        engine = (self.engine.identity,) if self.engine is not None else ()
        if self.booted is not None:
            engine = (*engine, self.booted.admin, self.booted.root)
        SessionRecord.of(self.run_id, engine, outside).save(self.run_dir)

    def _stop_everything(self) -> None:
        """View, engine, venues, then Redis: within five seconds in all. No step is left out because one failed."""
        with contextlib.ExitStack() as steps:  # last in, first out
            steps.callback(remove_image, self.run_dir)
            for server in self._redis:
                steps.callback(server.stop, 1.0)
            steps.callback(self._stop_venues)
            if self.engine is not None:
                steps.callback(self.engine.stop, self.settings.supervision.stop_timeout_s * 0.8)
            if self._redis:
                steps.callback(self._summarize)
            steps.callback(self._stop_view)

    def _stop_view(self) -> None:
        for one in self.outside:
            if one.role == "view" and one.identity is not None:
                kill_if_same(one.identity, signal.SIGTERM)

    def _summarize(self) -> None:
        """Read while Redis still serves."""
        uptime_s = (time.time_ns() - self._started_ns) / 1e9
        self.summary = final_summary(self.settings, uptime_s, max(0, len(self.starts) - 1))

    def _stop_venues(self) -> None:
        for one in self.outside:
            if one.watch is not None and one.role in ENDED_BY_SIGNAL and one.identity is not None:
                kill_if_same(one.identity, signal.SIGTERM)
        for one in self.outside:
            if one.watch is None or one.identity is None or one.role not in ENDED_BY_SIGNAL:
                continue
            if not one.watch.wait(VENUE_STOP_S):
                kill_if_same(one.identity, signal.SIGKILL)


def run_engine(settings: Settings, fresh: bool, view_arguments: list[str] | None) -> tuple[int, str]:
    """Run until stopped; return the exit code and the last words (a summary, or why it was refused).

    `view_arguments`: the command line after `run.py view` that shows this engine; None for log lines instead.
    """
    # A core would hold passwords and keys; every process of the run inherits this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    guardian = Guardian(settings, view_arguments)
    try:
        if view_arguments is None:
            log_to_terminal(settings.run.log_level)
        else:
            log_to_file(settings.run.run_dir, "run.py", settings.run.log_level)
        return guardian.run(fresh), guardian.summary
    except REFUSALS as error:
        return ExitCode.REFUSED, f"apex: {error}"
    except OSError as error:
        if error.errno not in DISK_REFUSALS:
            raise
        return ExitCode.REFUSED, (
            f"apex: the run directory {guardian.run_dir} cannot be written: {error}. "
            "Remedy: free space or mend its permissions, or name another with --set run.run_dir=…"
        )


class _SignalPipe:
    """SIGINT and SIGTERM as something to select on; SIGCHLD only wakes."""

    def __init__(self) -> None:
        self.descriptor, self._writer = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._writer, False)
        self.stop_asked = False
        self._interrupts = False
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        first, self.stop_asked = not self.stop_asked, True
        if first and self._interrupts:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Within it, what waits is interrupted by KeyboardInterrupt, once; elsewhere the loop asks `stop_asked`."""
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    def drain(self) -> None:
        """Empty the pipe."""
        try:
            os.read(self.descriptor, 4096)
        except BlockingIOError:
            return


def _start_server(server: EmbeddedRedis) -> int:
    server.alive()  # reaps the one that ended
    server.start()
    return server.pid
