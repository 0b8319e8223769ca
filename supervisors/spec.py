"""What a supervision tree is, as data: who is started, in which order, and what an exit means.

The terms are Erlang/OTP's (`supervisor` behaviour). A spec is checked when it is made: one that exists is sound.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Literal

import msgspec

_ROLE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")
_ACTOR = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
ROLE_LENGTH_MAX = 64
BACKOFF_STEP_S = 0.05
"""Where `Backoff.first_s` is less, the second restart in a row is counted from this: zero times a factor stays zero."""
SUPERVISOR_SHUTDOWN_MARGIN_S = 1.0


class SpecError(ValueError):
    """A spec that cannot be meant; the text names the role and the field."""


class RestartType(enum.Enum):
    """Which exits are followed by a restart."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    """Only abnormal ones. A transient child that ended normally comes back with a group restart, as in OTP."""
    TEMPORARY = "temporary"
    """None, not even one that a sibling's restart caused."""


class Strategy(enum.Enum):
    """Which siblings an exit takes along."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class ExitReason(enum.Enum):
    """Why a process ended, as far as anyone can tell."""

    NORMAL = "normal"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    """Also what is assumed of a process that ended without a word."""
    KILLED_HUNG = "killed_hung"
    DEPENDENCY_DOWN = "dependency_down"
    STARTUP_FAILED = "startup_failed"
    STARTUP_TIMED_OUT = "startup_timed_out"
    FENCED = "fenced"
    ESCALATED = "escalated"
    """A child supervisor spent its budget."""

    @property
    def is_normal(self) -> bool:
        """True where a transient child has done what it was for."""
        return self in (ExitReason.NORMAL, ExitReason.SHUTDOWN)


class Backoff(msgspec.Struct, frozen=True):
    """Pause before each restart of the same child, while the restarts follow one another."""

    first_s: float
    factor: float
    max_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.first_s <= self.max_s:
            raise SpecError(
                f"backoff: 0 <= first_s <= max_s does not hold (first_s={self.first_s}, max_s={self.max_s})"
            )
        if self.factor < 1:
            raise SpecError(f"backoff: factor {self.factor} is below 1")

    def delay_s(self, restarts_in_a_row: int) -> float:
        """Pause before the n-th restart in a row, n from 1: `first_s`, then growing by `factor` up to `max_s`."""
        if restarts_in_a_row <= 1:
            return self.first_s
        # The exponent is bounded so that a long crash loop cannot overflow the float.
        grown = max(self.first_s, BACKOFF_STEP_S) * self.factor ** min(restarts_in_a_row - 1, 64)
        return min(self.max_s, grown)


class ChildSpec(msgspec.Struct, frozen=True):
    """One worker process."""

    role: str
    kind: Literal["worker", "supervisor"]
    actor: str
    """`module:name` of what the process becomes."""
    restart_type: RestartType
    shutdown_s: float
    """Time to end in order before it is killed; 0 kills at once."""
    depends_on_ledger: bool = False
    options: tuple[tuple[str, str], ...] = ()
    start_timeout_s: float = 30.0
    """A start that has not been reported within this time is killed and counted as an exit."""

    def __post_init__(self) -> None:
        _check_role(self.role)
        if not _ACTOR.fullmatch(self.actor):
            raise SpecError(f"{self.role}: actor {self.actor!r} is not 'module:name'")
        if self.shutdown_s < 0:
            raise SpecError(f"{self.role}: shutdown_s {self.shutdown_s} is negative")
        if self.start_timeout_s <= 0:
            raise SpecError(f"{self.role}: start_timeout_s {self.start_timeout_s} is not positive")
        names = [name for name, _ in self.options]
        if len(names) != len(set(names)):
            raise SpecError(f"{self.role}: an option is given twice: {sorted(names)}")

    @property
    def needs_ledger(self) -> bool:
        """Whether it cannot run while the ledger is away."""
        return self.depends_on_ledger


class SupervisorSpec(msgspec.Struct, frozen=True):
    """One supervisor and everything below it. As a child of another it is permanent, as OTP recommends."""

    role: str
    strategy: Strategy
    intensity: int
    """At most so many restarts within `period_s`; the next one is not made, but escalated."""
    period_s: float
    backoff: Backoff
    children: tuple[ChildSpec | SupervisorSpec, ...]

    def __post_init__(self) -> None:
        _check_role(self.role)
        if self.intensity < 0:
            raise SpecError(f"{self.role}: intensity {self.intensity} is negative")
        if self.period_s <= 0:
            raise SpecError(f"{self.role}: period_s {self.period_s} is not positive")
        seen: set[str] = set()
        for spec in self.walk():
            if spec.role in seen:
                raise SpecError(f"{self.role}: role {spec.role!r} stands twice in the tree")
            seen.add(spec.role)

    @property
    def restart_type(self) -> RestartType:
        """A supervisor is always restarted; what its end means is its budget's affair."""
        return RestartType.PERMANENT

    @property
    def shutdown_s(self) -> float:
        """Its children stop one after the other, so it needs the sum of their times, and a little."""
        return sum(child.shutdown_s for child in self.children) + SUPERVISOR_SHUTDOWN_MARGIN_S

    @property
    def needs_ledger(self) -> bool:
        """Whether anything below it cannot run while the ledger is away."""
        return any(child.needs_ledger for child in self.children)

    def walk(self) -> Iterator[ChildSpec | SupervisorSpec]:
        """Itself, then everything below, depth first, left to right: the order of start."""
        yield self
        for child in self.children:
            if isinstance(child, SupervisorSpec):
                yield from child.walk()
            else:
                yield child


AnySpec = ChildSpec | SupervisorSpec


def _check_role(role: str) -> None:
    """Roles become file names, process titles and key parts: nothing that any of these would take amiss."""
    if not _ROLE.fullmatch(role):
        raise SpecError(f"role {role!r}: lower-case words of letters, digits and _, joined by dots, letter first")
    if len(role) > ROLE_LENGTH_MAX:
        raise SpecError(f"role {role!r} is longer than {ROLE_LENGTH_MAX}")
