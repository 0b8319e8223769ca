"""Actors in the simulation: a role's live incarnation, its zombies, its death and its return.

A death takes everything volatile with it: memory, timers, what its driver had not yet handed to the venue. A pause
stops an incarnation in the middle of whatever it does, at a fault point, while the world goes on; a supervisor that
took it for dead may have a successor running by the time it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from actors.effects import AppendLine, Publish, Severity
from actors.kept_alarms import KeptAlarm
from actors.messages import AnyMessage, Envelope
from actors.ports import FaultPoint, Fenced, LedgerAway, Ports
from actors.role import Role
from actors.shell import Shell
from tests.sim.faults import FaultRates
from tests.sim.ledger import LedgerStore, SimLedger
from tests.sim.network import Network
from tests.sim.scheduler import MS, SECOND, Event, Scheduler, Violation

BACKLOG_MAX = 400
ZOMBIES_MAX = 2
BETWEEN = f"{FaultPoint.BEFORE_EFFECT.value} Drive"
PAUSE_NS_MAX = 20 * SECOND
"""A hung actor is killed after 15 s of silence, looked at every 5 s."""


class SimCrash(BaseException):
    """The process is gone at this very instruction. A BaseException, so that nothing in the engine catches it."""


class SimDriver(Protocol):
    """A driver that starts with its incarnation and dies with it."""

    def start(self) -> None:
        """Begin; events go through `Incarnation.input`."""

    def post(self, command: AnyMessage) -> None:
        """Take a command of the actor."""

    def die(self) -> None:
        """The process is gone."""


class Observer(Protocol):
    """What the checkers want to hear of while it happens."""

    def fault_point(self, incarnation: Incarnation, point: FaultPoint, envelope: Envelope | None, name: str) -> None:
        """A fault point was reached."""

    def posted(self, incarnation: Incarnation, command: AnyMessage) -> None:
        """A command was given to a driver."""

    def acknowledged(self, incarnation: Incarnation, stream: str, entry_id: str) -> None:
        """A bus entry was acknowledged."""

    def line(self, incarnation: Incarnation, file: str, body: AnyMessage) -> None:
        """A line was written to a file, or a message to a bus stream."""

    def recovered(self, incarnation: Incarnation) -> None:
        """An incarnation finished its recovery."""


class World(Protocol):
    """What a host needs of the run it is in."""

    scheduler: Scheduler
    store: LedgerStore
    network: Network
    rates: FaultRates
    pauses: int
    struck: dict[str, int]

    @property
    def observer(self) -> Observer:
        """Return who wants to hear of everything."""

    def host_died(self, host: Host) -> None:
        """Called after each death."""

    def host_started(self, host: Host) -> None:
        """Called after each successful recovery."""

    def acknowledge_entry(self, stream: str, entry_id: str) -> None:
        """Take an entry off the bus's list of what is pending."""

    def halt_reason(self) -> str:
        """Return what the halt latch says; empty: no halt."""

    def observer_failed(self, incarnation: Incarnation, what: str, error: Exception) -> None:
        """A handler raised something; does not return."""


ShellFactory = Callable[[Role[Any], Ports, int], Shell[Any]]
DriverFactory = Callable[["Incarnation"], SimDriver]


class Incarnation:
    """One life of a role: its shell and all ports of it but the ledger's store and the network."""

    def __init__(self, host: Host, number: int) -> None:
        self.host = host
        self.number = number
        self.dead = False
        self.paused = False
        self.zombie = False
        self.backlog: list[tuple[str, Callable[[], None]]] = []
        self.running: dict[str, Event] = {}
        self.ledger = SimLedger(host.name, host.world.store)
        self.driver = host.make_driver(self)
        ports = Ports(
            ledger=self.ledger,
            transport=self,
            timers=self,
            driver=self,
            bus=self,
            alarms=host.alarms,
            clock=self,
            tracer=self,
            faults=self,
        )
        self.shell = host.make_shell(host.role, ports, host.snapshot_every)

    def __str__(self) -> str:
        return f"{self.host.name}#{self.number}"

    # ---- ports

    def send(self, envelope: Envelope) -> bool:
        """Transport."""
        return self.host.world.network.send(envelope)

    def start(self, name: str, after_ns: int) -> None:
        """Timers: start or move."""
        self.cancel(name)
        self.running[name] = self.host.world.scheduler.after(after_ns, f"timer {name}", lambda: self._fire(name))

    def cancel(self, name: str) -> None:
        """Timers: forget."""
        event = self.running.pop(name, None)
        if event is not None:
            event.cancelled = True

    def post(self, command: AnyMessage) -> None:
        """Driver."""
        self.host.world.observer.posted(self, command)
        self.driver.post(command)

    def publish(self, effect: Publish, envelope: Envelope) -> None:
        """Bus: a stream."""
        self.host.world.observer.line(self, effect.stream, effect.body)

    def append_line(self, effect: AppendLine, envelope: Envelope) -> None:
        """Bus: a file."""
        self.host.world.observer.line(self, effect.file, effect.body)

    def acknowledge(self, stream: str, entry_id: str) -> None:
        """Bus: an entry is done with."""
        world = self.host.world
        world.observer.acknowledged(self, stream, entry_id)
        if not world.scheduler.chance(world.rates.ack_lost):
            world.acknowledge_entry(stream, entry_id)

    def now_ns(self) -> int:
        """Clock."""
        return self.host.world.scheduler.now_ns

    def hop(self, envelope: Envelope, received_ns: int, handled_ns: int, outcome: str) -> None:
        """Tracer: a message was handled, or refused."""
        if outcome != "handled":
            self.host.world.scheduler.log(str(self), f"{outcome}: {envelope.message_id} {type(envelope.body).__name__}")

    def sent(self, envelope: Envelope, sent_ns: int) -> None:
        """Tracer: the network logs what it does with it."""

    def at(self, point: FaultPoint, envelope: Envelope | None, name: str) -> None:
        """Faults: tell the checkers, then perhaps die, hang, or be taken for dead."""
        world = self.host.world
        world.observer.fault_point(self, point, envelope, name)
        rates, scheduler = world.rates, world.scheduler
        if name == "Drive" and scheduler.chance(rates.crash_after_effect):
            self._crash(point, name)
        if scheduler.chance(rates.crash):
            self._crash(point, name)
        pause = rates.pause_before_drive if f"{point.value} {name}" == BETWEEN else rates.pause
        if world.pauses < ZOMBIES_MAX and not self.zombie and scheduler.chance(pause):
            self._pause(f"{point.value} {name}")

    # ---- inputs

    def input(self, what: str, run: Callable[[], None]) -> None:
        """Let the actor handle something, now or (paused) later; what it raises ends it."""
        if self.dead:
            return
        if self.paused:
            if len(self.backlog) < BACKLOG_MAX:
                self.backlog.append((what, run))
            return
        host, scheduler = self.host, self.host.world.scheduler
        scheduler.log(str(self), what)
        try:
            run()
        except (SimCrash, Fenced, LedgerAway) as end:
            self.die(f"{type(end).__name__}: {end}")
        except Exception as error:  # noqa: BLE001
            # A zombie that acts on an old state may find the world impossible: it ends, and no harm is done.
            if not self.zombie:
                host.world.observer_failed(self, what, error)
            self.die(f"{type(error).__name__}: {error}")
        if self.backlog:
            self._drain_soon()

    def die(self, reason: str) -> None:
        """End; everything volatile is gone."""
        if self.dead:
            return
        self.dead = True
        host = self.host
        host.world.scheduler.log(str(self), f"DIED {reason}")
        for event in self.running.values():
            event.cancelled = True
        self.running.clear()
        self.backlog.clear()
        self.driver.die()
        host.ended(self)

    def _fire(self, name: str) -> None:
        self.running.pop(name, None)
        self.input(f"timer {name}", lambda: self.shell.timer_fired(name))

    def _drain_soon(self) -> None:
        what, run = self.backlog.pop(0)
        self.host.world.scheduler.after(0, what, lambda: self.input(f"{what} (late)", run))

    def _crash(self, point: FaultPoint, name: str) -> None:
        self.host.struck(f"crash {point.value}")
        raise SimCrash(f"{point.value} {name}")

    def _pause(self, where: str) -> None:
        world, scheduler = self.host.world, self.host.world.scheduler
        # Long between word and deed, so that a lease can run out there.
        shortest_ns, replaced = (6 * SECOND, False) if where == BETWEEN else (MS, scheduler.chance(0.8))
        duration_ns = scheduler.between(shortest_ns, PAUSE_NS_MAX)
        scheduler.log(str(self), f"PAUSED at {where} for {duration_ns / MS:.1f} ms, taken for dead: {replaced}")
        self.host.struck("zombie" if replaced else "pause")
        self.paused = True
        world.pauses += 1
        if replaced:
            self.host.abandon(self)
        try:
            scheduler.run_until(scheduler.now_ns + duration_ns)
        finally:
            world.pauses -= 1
            self.paused = False
        if self.dead:
            raise SimCrash("killed while paused")
        scheduler.log(str(self), f"GOES ON after {where}, zombie: {self.zombie}")


class Host:
    """A role's place in the tree: starts it, notices its end, starts it again."""

    def __init__(
        self,
        world: World,
        role: Role[Any],
        make_driver: DriverFactory,
        make_shell: ShellFactory = Shell,
        snapshot_every: int = 20,
    ) -> None:
        self.world = world
        self.name = role.name
        self.role = role
        self.make_driver = make_driver
        self.make_shell = make_shell
        self.snapshot_every = snapshot_every
        self.alarms = SimAlarms(world.scheduler, role.name)
        self.current: Incarnation | None = None
        self.ready = False
        self.zombies: list[Incarnation] = []
        self.lives = 0

    def begin(self) -> None:
        """Start an incarnation; it is reachable once it has recovered."""
        if self.current is not None:
            return
        self.lives += 1
        self.ready = False
        incarnation = Incarnation(self, self.lives)
        self.current = incarnation
        incarnation.input("recover", lambda: self._recover(incarnation))

    def _recover(self, incarnation: Incarnation) -> None:
        incarnation.shell.recover()
        self.world.observer.recovered(incarnation)
        if self.current is not incarnation:
            return
        self.ready = True
        incarnation.driver.start()
        self.world.host_started(self)

    def ended(self, incarnation: Incarnation) -> None:
        """An incarnation is gone; a live one is replaced after a while."""
        if incarnation in self.zombies:
            self.zombies.remove(incarnation)
        if self.current is incarnation:
            self.current = None
            self.ready = False
            self._replace()
        self.world.host_died(self)

    def struck(self, what: str) -> None:
        """Count a fault, so that a test can see that each kind happens."""
        self.world.struck[what] = self.world.struck.get(what, 0) + 1

    def abandon(self, incarnation: Incarnation) -> None:
        """A supervisor wrongly takes this incarnation for dead, and kills it only some time later, if at all soon."""
        if self.current is incarnation:
            incarnation.zombie = True
            self.zombies.append(incarnation)
            self.current = None
            self.ready = False
            self._replace()
            delay_ns = self.world.scheduler.between(100 * MS, 20 * SECOND)
            self.world.scheduler.after(delay_ns, "kill zombie", lambda: incarnation.die("killed by its supervisor"))

    def _replace(self) -> None:
        scheduler = self.world.scheduler
        scheduler.after(scheduler.between(MS, 3 * SECOND), f"start {self.name}", self.begin)

    def receiver(self) -> Incarnation | None:
        """Return who gets a message sent to this role: mostly the live incarnation, now and then a zombie."""
        living = [zombie for zombie in self.zombies if not zombie.dead]
        if living and self.world.scheduler.chance(0.2):
            return living[0]
        return self.current if self.ready else None

    def deliver(self, envelope: Envelope) -> None:
        """Hand over what the network brings."""
        incarnation = self.receiver()
        if incarnation is None:
            self.world.scheduler.log(self.name, f"not there: {envelope.message_id} is lost")
            return
        body = type(envelope.body).__name__
        incarnation.input(f"← {envelope.source} {body} {envelope.message_id}", lambda: incarnation.shell.take(envelope))


class SimAlarms:
    """A role's alarm table; it outlives incarnations, as the aggregator's does."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self.scheduler = scheduler
        self.name = name
        self.standing: dict[str, str] = {}

    def raise_alarm(self, name: str, severity: Severity, text: str) -> None:
        """Set."""
        self.scheduler.log(self.name, f"ALARM {severity.value} {name}: {text}")
        self.standing[name] = text

    def keep_alarm(self, name: str, kept: KeptAlarm) -> None:
        """Set one that waits for a person."""
        self.raise_alarm(name, kept.severity, kept.text)

    def clear_alarm(self, name: str, why: str = "") -> None:
        """Clear."""
        self.standing.pop(name, None)


def violation_of(incarnation: Incarnation, what: str, error: Exception) -> Violation:
    """Turn an exception out of a handler into a finding: an engine may stop, but not because it is wrong."""
    return Violation("no handler fails", f"{incarnation} handling {what}: {type(error).__name__}: {error}")
