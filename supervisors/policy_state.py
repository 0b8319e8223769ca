"""Of one supervisor: what can happen to it, what it can do about it, and what it remembers."""

from __future__ import annotations

import enum

import msgspec

from supervisors.spec import AnySpec, ExitReason, SupervisorSpec


class Started(msgspec.Struct, frozen=True):
    """The child serves (for a supervisor: all below it does)."""

    role: str
    incarnation: int


class Exited(msgspec.Struct, frozen=True):
    """The process of this incarnation is gone. May come twice or late."""

    role: str
    incarnation: int
    reason: ExitReason


class Hung(msgspec.Struct, frozen=True):
    """No heartbeat for too long."""

    role: str
    incarnation: int


class DependencyDown(msgspec.Struct, frozen=True):
    """The ledger is away."""


class DependencyUp(msgspec.Struct, frozen=True):
    """The ledger is back."""


class StopRequested(msgspec.Struct, frozen=True):
    """Stop everything; final."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed. May come early, late or unasked."""


Event = Started | Exited | Hung | DependencyDown | DependencyUp | StopRequested | Tick


class StartChild(msgspec.Struct, frozen=True):
    """Create the process of this incarnation. One that cannot be created is an `Exited` with STARTUP_FAILED."""

    role: str
    incarnation: int


class StopChild(msgspec.Struct, frozen=True):
    """Ask it to end in order; the kill after `shutdown_s` is decided here, not by who runs the effect."""

    role: str
    incarnation: int
    shutdown_s: float


class KillChild(msgspec.Struct, frozen=True):
    """Kill its process; where it is found gone already, say `Exited`."""

    role: str
    incarnation: int


class WakeAt(msgspec.Struct, frozen=True):
    """Send a `Tick` at this time (or soon after); replaces the former one."""

    at_ns: int


class AllRunning(msgspec.Struct, frozen=True):
    """Every child that is to run runs, for the first time: the supervisor itself has started."""


class Escalate(msgspec.Struct, frozen=True):
    """The budget is spent and all children are gone: end, and let the parent decide."""

    reason: str


class AllStopped(msgspec.Struct, frozen=True):
    """What `StopRequested` asked for is done."""


Effect = StartChild | StopChild | KillChild | WakeAt | AllRunning | Escalate | AllStopped


class Status(enum.Enum):
    """Where a child's newest incarnation stands."""

    STOPPED = "stopped"
    WAITING = "waiting"
    """Gone and to be started: after its backoff, its turn in the order, or its dependency."""
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Mode(enum.Enum):
    """What the supervisor as a whole is about."""

    RUNNING = "running"
    STOPPING = "stopping"
    ESCALATING = "escalating"
    ENDED = "ended"


class ChildState(msgspec.Struct, frozen=True):
    """One child. A live one has a process (or will have, once the effect has run)."""

    spec: AnySpec
    status: Status = Status.WAITING
    incarnation: int = 0
    recycle: bool = False
    """To be stopped for a sibling's sake and started again."""
    begun: bool = False
    """Was running at least once; orders the first start."""
    killed: bool = False
    blame: ExitReason | None = None
    """Why we killed it: stands for whatever reason its exit is reported with."""
    deadline_ns: int | None = None
    """When a start is given up, a stop becomes a kill, or a kill is repeated."""
    not_before_ns: int = 0
    running_since_ns: int = 0
    in_a_row: int = 0
    disputes: int = 0
    restarts: int = 0
    last_exit: ExitReason | None = None

    @property
    def role(self) -> str:
        """Its name."""
        return self.spec.role

    @property
    def live(self) -> bool:
        """Whether a process of it exists or is being made."""
        return self.status in (Status.STARTING, Status.RUNNING, Status.STOPPING)


class PolicyCounters(msgspec.Struct, frozen=True):
    """What the degraded paths did."""

    notices_ignored: int = 0
    """Of an unknown role, an old incarnation, or a second time."""
    restarts_counted: int = 0
    exits_uncounted: int = 0
    disputes: int = 0
    kills: int = 0
    starts_timed_out: int = 0


class SupervisorState(msgspec.Struct, frozen=True):
    """Everything a supervisor must remember to decide."""

    spec: SupervisorSpec
    children: tuple[ChildState, ...]
    mode: Mode = Mode.RUNNING
    escalation: str = ""
    restart_times_ns: tuple[int, ...] = ()
    escalation_times_ns: tuple[int, ...] = ()
    dependency_up: bool = True
    announced: bool = False
    wake_at_ns: int | None = None
    now_ns: int = 0
    counters: PolicyCounters = PolicyCounters()

    def child(self, role: str) -> ChildState | None:
        """The child of this name."""
        return next((child for child in self.children if child.role == role), None)

    @property
    def all_running(self) -> bool:
        """No child is on its way up or down."""
        return all(child.status in (Status.RUNNING, Status.STOPPED) for child in self.children)


def initial_state(spec: SupervisorSpec, dependency_up: bool = True, incarnation_base: int = 0) -> SupervisorState:
    """Nothing started yet; the first `Tick` starts the first child.

    `incarnation_base`: the first incarnation of each child is one more. A supervisor that is itself started again
    gives another base each time, so that notes which its predecessor's children left are never taken for news.
    """
    children = tuple(ChildState(child, incarnation=incarnation_base) for child in spec.children)
    return SupervisorState(spec=spec, children=children, dependency_up=dependency_up)
