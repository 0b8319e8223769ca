"""One run: hosts, ledger, network, signals and faults, driven by a seed, watched by laws."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from actors.messages import AnyMessage, Envelope, HaltChanged, Side, Signal
from actors.ports import FaultPoint
from actors.role import Role
from actors.shell import Shell
from tests.sim.bus import SignalStream
from tests.sim.faults import QUIET, FaultRates, draw_rates
from tests.sim.hosts import DriverFactory, Host, Incarnation, ShellFactory, violation_of
from tests.sim.journal_laws import JournalLaws
from tests.sim.ledger import Entry, LedgerFaults, LedgerStore
from tests.sim.network import Network
from tests.sim.scheduler import MS, SECOND, Scheduler, Violation

ACTIVE_NS_MAX = 300 * SECOND
CHECK_EVERY = 25
SYMBOLS = ("AAPL", "MSFT", "NVDA")
STRATEGIES = ("momentum", "reversal", "drift", "by_hand")
FIXED8 = 100_000_000
ONE_OF_EACH_S = SECOND


class Laws:
    """Laws of one kind of run; the defaults ask nothing.

    With `near` off, the laws that catch a bug in the act are silent, and only those speak that see what comes of it.
    """

    near = True

    def appended(self, role: str, record: dict[str, Any]) -> None:
        """A journal grew."""

    def posted(self, incarnation: Incarnation, command: AnyMessage) -> None:
        """A driver got a command."""

    def effect(self, incarnation: Incarnation, point: FaultPoint, cause: Envelope, name: str) -> None:
        """A fault point around an effect was reached."""

    def acknowledged(self, incarnation: Incarnation, stream: str, entry_id: str) -> None:
        """A signal entry was acknowledged."""

    def line(self, incarnation: Incarnation, file: str, body: AnyMessage) -> None:
        """Something was published."""

    def delivered(self, envelope: Envelope) -> None:
        """The network took an envelope."""

    def after_event(self) -> None:
        """An event is over."""

    def at_the_end(self) -> None:
        """The quiet is over."""

    def left_behind(self) -> bytes:
        """Bytes outside the ledger that a run leaves."""
        return b""


class Simulation:
    """Everything of one seed. `hosts` are added by an assembly before `run`."""

    def __init__(self, seed: int, steps: int = 400, rates: FaultRates | None = None) -> None:
        self.seed = seed
        self.steps = steps
        self.scheduler = Scheduler(seed)
        self.rates = draw_rates(self.scheduler.random) if rates is None else rates
        self.store = LedgerStore(self.scheduler)
        self.network = Network(self.scheduler, lambda: self.rates)
        self.stream = SignalStream(self.scheduler)
        self.journal_laws = JournalLaws(self.store)
        self.laws: list[Laws] = []
        self.hosts: dict[str, Host] = {}
        self.pauses = 0
        self.struck: dict[str, int] = {}
        self.faulty = True
        self.signals = 0
        self.every_second: list[Callable[[], None]] = []
        self.quiet_starts: list[Callable[[], None]] = []
        self.quiet_ns = 20 * SECOND
        self._halt = ""
        self.store.appended = self._appended
        self.network.tap = self._sent
        self.scheduler.after_event = self._after_event

    def judge_by_consequences(self) -> None:
        """Silence the laws that catch a bug in the act."""
        self.journal_laws.near = False
        for laws in self.laws:
            laws.near = False

    def fingerprint(self) -> bytes:
        """All bytes that a run leaves behind."""
        return self.store.dump() + b"".join(laws.left_behind() for laws in self.laws)

    def add(self, role: Role[Any], make_driver: DriverFactory, make_shell: ShellFactory = Shell) -> Host:
        """Put a role into the world."""
        snapshot_every = self.scheduler.random.choice((3, 10, 40, 1000))
        host = Host(self, role, make_driver, make_shell, snapshot_every)
        self.hosts[host.name] = host
        self.journal_laws.hosts[host.name] = host
        self.network.endpoints[host.name] = host
        return host

    @property
    def observer(self) -> Simulation:
        """It hears of everything itself."""
        return self

    # ---- the run

    def run(self) -> None:
        """Start, misbehave for so many events, be quiet for long, check the end. Raises Violation."""
        rates = self.rates
        self.store.faults = LedgerFaults(
            rates.ledger_lost, rates.ledger_silent, rates.ledger_late, rates.snapshot_damaged
        )
        for host in self.hosts.values():
            self.scheduler.after(self.scheduler.between(MS, 50 * MS), f"start {host.name}", host.begin)
        self.scheduler.after(ONE_OF_EACH_S, "second", self._second)
        self.scheduler.run_steps(self.steps, self.scheduler.now_ns + ACTIVE_NS_MAX)
        self._be_quiet()
        self.scheduler.run_until(self.scheduler.now_ns + self.quiet_ns)
        self._end()

    def _be_quiet(self) -> None:
        self.scheduler.log("world", "QUIET from here: no more faults, no more signals")
        self.faulty = False
        self.rates = QUIET
        self.store.faults = LedgerFaults()
        self.store.away = False
        for host in self.hosts.values():
            for zombie in list(host.zombies):
                zombie.die("quiet: killed by its supervisor")
        self.set_halt("")
        for start in self.quiet_starts:
            start()

    def _end(self) -> None:
        for host in self.hosts.values():
            self.journal_laws.state_is_fold(host)
        self.journal_laws.nothing_owed()
        for laws in self.laws:
            laws.at_the_end()

    def _second(self) -> None:
        """What happens about once a second."""
        self.scheduler.after(ONE_OF_EACH_S, "second", self._second)
        for act in self.every_second:
            act()
        if not self.faulty:
            return
        if self.scheduler.chance(0.5):
            self._publish_signal()
        if not self.store.away and self.scheduler.chance(self.rates.ledger_away_per_s):
            self._ledger_away()
        if self.scheduler.chance(self.rates.halt_per_s):
            self.set_halt("a person said so")
            self.scheduler.after(self.scheduler.between(SECOND, 30 * SECOND), "resume", lambda: self.set_halt(""))

    def _ledger_away(self) -> None:
        self.store.away = True
        self.scheduler.log("ledger", "AWAY")

        def back() -> None:
            self.store.away = False
            self.scheduler.log("ledger", "back")

        self.scheduler.after(self.scheduler.between(5 * MS, 8 * SECOND), "ledger back", back)

    # ---- signals and halts

    def _publish_signal(self) -> None:
        random = self.scheduler.random
        if self.signals and random.random() < 0.08:
            again = random.choice([signal for signal in self.stream.entries.values() if signal] or [None])
            self.stream.publish(again)
            return
        if random.random() < 0.03:
            self.stream.publish(None)
            return
        self.signals += 1
        side = random.choice((Side.BUY, Side.SELL))
        symbol = random.choice(SYMBOLS)
        reference_px = self.reference_px(symbol)
        sign = 1 if side is Side.BUY else -1
        cent = FIXED8 // 100
        step = max(cent, int(reference_px * random.uniform(0.002, 0.02)) // cent * cent)
        now_ns = self.scheduler.now_ns
        self.stream.publish(
            Signal(
                signal_id=f"s{self.signals}",
                strategy=random.choice(STRATEGIES),
                symbol=symbol,
                side=side,
                take_profit_px=reference_px + sign * step,
                stop_px=reference_px - sign * step,
                reference_px=reference_px,
                ts_event_ns=now_ns,
                expires_ns=now_ns + self.scheduler.between(5 * SECOND, 200 * SECOND),
                limit_px=0 if random.random() < 0.6 else reference_px + sign * random.randrange(-3, 4) * cent,
            )
        )

    def reference_px(self, symbol: str) -> int:
        """Price a signal is made from; a world with a venue has a better one."""
        return 100 * FIXED8

    def halt_reason(self) -> str:
        """Return what the latch says."""
        return self._halt

    def set_halt(self, reason: str) -> None:
        """Latch or clear; live actors read it within moments."""
        if reason == self._halt:
            return
        self._halt = reason
        self.scheduler.log("world", f"HALT {reason!r}")
        for host in self.hosts.values():
            delay_ns = self.scheduler.between(MS, 500 * MS)
            self.scheduler.after(delay_ns, "read latch", lambda host=host: self._tell_halt(host))  # type: ignore[misc]

    def _tell_halt(self, host: Host) -> None:
        incarnation = host.current
        if incarnation is not None and host.ready:
            body = HaltChanged(self._halt, self.scheduler.now_ns)
            incarnation.input(f"halt {self._halt!r}", lambda: incarnation.shell.shell_event(body))

    # ---- what the parts tell

    def host_started(self, host: Host) -> None:
        """A supervisor reads the latch for a new incarnation and tells the others where it is, some of them late."""
        self._tell_halt(host)
        for peer in self.hosts.values():
            if peer is not host and not self.scheduler.chance(self.rates.drop):
                delay_ns = self.scheduler.between(MS, 100 * MS)
                self.scheduler.after(delay_ns, "peer changed", lambda peer=peer: self._tell_peer(peer, host.name))  # type: ignore[misc]

    def _tell_peer(self, peer: Host, name: str) -> None:
        incarnation = peer.current
        if incarnation is not None and peer.ready:
            incarnation.input(f"{name} changed", lambda: incarnation.shell.peer_changed(name))

    def host_died(self, host: Host) -> None:
        """Nothing else depends on it here."""

    def acknowledge_entry(self, stream: str, entry_id: str) -> None:
        """The bus."""
        self.stream.acknowledge(entry_id)

    def observer_failed(self, incarnation: Incarnation, what: str, error: Exception) -> None:
        """A handler raised what no handler may raise."""
        for line in traceback.format_exception(error):
            self.scheduler.log(str(incarnation), line.rstrip())
        raise violation_of(incarnation, what, error) from error

    def fault_point(self, incarnation: Incarnation, point: FaultPoint, envelope: Envelope | None, name: str) -> None:
        """Pass on to the laws."""
        if envelope is None:
            return
        for laws in self.laws:
            laws.effect(incarnation, point, envelope, name)

    def posted(self, incarnation: Incarnation, command: AnyMessage) -> None:
        """Pass on to the laws."""
        self.scheduler.log(str(incarnation), f"drives {command}")
        for laws in self.laws:
            laws.posted(incarnation, command)

    def acknowledged(self, incarnation: Incarnation, stream: str, entry_id: str) -> None:
        """Pass on to the laws."""
        self.scheduler.log(str(incarnation), f"acknowledges {stream} {entry_id}")
        for laws in self.laws:
            laws.acknowledged(incarnation, stream, entry_id)

    def line(self, incarnation: Incarnation, file: str, body: AnyMessage) -> None:
        """Pass on to the laws."""
        for laws in self.laws:
            laws.line(incarnation, file, body)

    def recovered(self, incarnation: Incarnation) -> None:
        """Pass on to the laws."""
        self.journal_laws.recovered(incarnation)

    def _appended(self, role: str, entry: Entry) -> None:
        record = self.journal_laws.appended(role, entry)
        body = record["input"]["body"]
        self.scheduler.log(role, f"journal {entry.seq} (epoch {entry.writer_epoch}) {body['type']}")
        for laws in self.laws:
            laws.appended(role, record)

    def _sent(self, envelope: Envelope) -> None:
        self.journal_laws.sent(envelope)
        for laws in self.laws:
            laws.delivered(envelope)

    def _after_event(self) -> None:
        for laws in self.laws:
            laws.after_event()
        if self.scheduler.step % CHECK_EVERY == 0 and not self.pauses:
            for host in self.hosts.values():
                self.journal_laws.state_is_fold(host)


__all__ = ["Laws", "Simulation", "Violation"]
