"""Drivers of the spot broker, the executor and the evaluator in the simulation; each dies with its incarnation."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import msgspec

from actors.cycle_plan import plan_of
from actors.messages import (
    AnyMessage,
    CancelSpotOrder,
    CycleLineWritten,
    CycleOutcome,
    CyclesResumed,
    EvaluatorReady,
    LegUsed,
    OpportunityFound,
    QuerySpotOrder,
    Quote,
    QuotesRead,
    ReadQuotes,
    ReadSpotAccount,
    SpotAccountRead,
    SpotBalancesReported,
    SpotOrderNotSent,
    SpotOrderRead,
    SpotOrderRefused,
    SpotOrderWritten,
    SpotOutcomeUnknown,
    SpotSessionLost,
    SpotSessionOpened,
    StartEvaluator,
    StartExecutor,
    SubmitSpotOrder,
    WriteCycleLine,
)
from kernels.book_image import Row, Verdict
from kernels.cycles import BUY, SELL
from kernels.evaluate import Terms, decide
from kernels.fixed8 import format_fixed8
from tests.sim.hosts import Incarnation
from tests.sim.scheduler import MS, SECOND
from tests.sim.spot_venue import FEE_E8, LISTED, SpotVenue, VenueOrder
from tests.sim.world import Simulation

CYCLES = (((0, 1, 2), (BUY, BUY, SELL)), ((2, 1, 0), (BUY, SELL, SELL)))
"""Rows and sides of the two directions."""


class Driver:
    """What they share: a way in for events, which ends with the incarnation."""

    def __init__(self, incarnation: Incarnation, simulation: Simulation) -> None:
        self.incarnation = incarnation
        self.simulation = simulation
        self.scheduler = simulation.scheduler
        self.dead = False

    def start(self) -> None:
        """Nothing by itself."""

    def die(self) -> None:
        """The process is gone."""
        self.dead = True

    def tell(self, body: AnyMessage) -> None:
        """An event for the actor, now."""
        if not self.dead:
            incarnation = self.incarnation
            incarnation.input(f"driver {type(body).__name__}", lambda: incarnation.shell.driver_event(body))

    def later(self, low_ns: int, high_ns: int, what: str, run: Callable[[], None]) -> None:
        """After a while, if it still lives then."""

        def unless_dead() -> None:
            if not self.dead:
                run()

        self.scheduler.after(self.scheduler.between(low_ns, high_ns), what, unless_dead)


class SpotDriver(Driver):
    """REST and user stream of the model exchange, with every answer that can be lost."""

    def __init__(self, incarnation: Incarnation, simulation: Simulation, venue: SpotVenue) -> None:
        super().__init__(incarnation, simulation)
        self.venue = venue
        self.session_id = ""
        self.answered: set[str] = set()

    def start(self) -> None:
        """Open a session soon."""
        self.later(MS, SECOND, "spot session", self._open)
        self.later(SECOND, 2 * SECOND, "spot trouble", self._trouble)

    def die(self) -> None:
        """The stream goes with it."""
        super().die()
        if self in self.venue.listeners:
            self.venue.listeners.remove(self)

    def post(self, command: AnyMessage) -> None:
        """Take a command: the worker's loop does it a moment later, and not at all if the process dies before."""
        self.later(1_000, MS, f"spot driver {type(command).__name__}", lambda: self._do(command))

    def _open(self) -> None:
        self.venue.sessions += 1
        self.session_id = f"{self.incarnation}/{self.venue.sessions}"
        self.venue.listeners.append(self)
        self.tell(SpotSessionOpened(self.session_id, "spot-account"))

    def _lose(self) -> None:
        if self.session_id:
            lost, self.session_id = self.session_id, ""
            self.venue.listeners.remove(self)
            self.tell(SpotSessionLost(lost, "the stream broke"))
            self.later(50 * MS, 3 * SECOND, "spot session", self._open)

    def _trouble(self) -> None:
        self.later(SECOND, 2 * SECOND, "spot trouble", self._trouble)
        if self.session_id and self.scheduler.chance(self.simulation.rates.session_drop_per_s):
            self._lose()

    def _do(self, command: AnyMessage) -> None:
        match command:
            case SubmitSpotOrder():
                self._submit(command)
            case QuerySpotOrder():
                self.later(MS, 300 * MS, "query answered", lambda: self._query(command))
            case ReadSpotAccount():
                self.later(MS, 300 * MS, "account answered", lambda: self._account(command))
            case CancelSpotOrder():
                pass
            case _:
                raise AssertionError(f"no such command: {command}")

    def _submit(self, command: SubmitSpotOrder) -> None:
        rates, scheduler, ticket = self.simulation.rates, self.scheduler, command.ticket
        name = ticket.client_order_id
        halted = bool(self.simulation.halt_reason()) and not command.reduces_risk
        if command.session_id != self.session_id or scheduler.now_ns >= command.not_after_ns or halted:
            self.tell(SpotOrderNotSent(command.session_id, name, "another session, too late, or a halt"))
            return
        signed_ns = scheduler.now_ns
        session_id = self.session_id
        if scheduler.chance(rates.venue_rejects):
            self.tell(SpotOrderWritten(session_id, name, signed_ns))
            self.tell(SpotOrderRefused(session_id, name, 400, -1013, "Filter failure"))
            return
        lost = scheduler.chance(rates.report_lost)
        slow = scheduler.chance(rates.submit_late)
        arrives_ns = scheduler.between(MS, 6 * SECOND) if slow else scheduler.between(MS // 10, 20 * MS)
        if not (lost and scheduler.chance(0.5)):  # a request that is lost on its way arrives never
            scheduler.after(
                arrives_ns, f"order {name} arrives", lambda: self._arrives(command, signed_ns, session_id, lost)
            )
        self.tell(SpotOrderWritten(session_id, name, signed_ns))
        self.later(SECOND, 3 * SECOND, "order timed out", lambda: self._timed_out(command, session_id))

    def _arrives(self, command: SubmitSpotOrder, signed_ns: int, session_id: str, lost: bool) -> None:
        """At the exchange; whether the process still lives is nothing to it."""
        done = self.venue.take(command.ticket, signed_ns)
        if isinstance(done, VenueOrder):
            for listener in tuple(self.venue.listeners):
                assert isinstance(listener, SpotDriver)
                listener.stream(done)
        if not lost:
            self.later(MS // 10, 50 * MS, "order answered", lambda: self._answer(command, done, session_id))

    def _answer(self, command: SubmitSpotOrder, done: VenueOrder | str, session_id: str) -> None:
        self.answered.add(command.ticket.client_order_id)
        if isinstance(done, str):
            self.tell(SpotOrderRefused(session_id, command.ticket.client_order_id, 400, int(done), "refused"))
            return
        bodies: list[AnyMessage] = [msgspec.structs.replace(trade, session_id=session_id) for trade in done.trades]
        bodies.insert(self.scheduler.random.randint(0, len(bodies)), self.venue.report(done, session_id))
        for body in bodies:
            self.tell(body)

    def _timed_out(self, command: SubmitSpotOrder, session_id: str) -> None:
        name = command.ticket.client_order_id
        if name not in self.answered:
            self.tell(SpotOutcomeUnknown(session_id, name, "no answer in time"))

    def stream(self, order: VenueOrder) -> None:
        """The user stream's reports: late, twice, out of order, or (a hole in the stream) not at all."""
        rates, scheduler, session_id = self.simulation.rates, self.scheduler, self.session_id
        new = msgspec.structs.replace(self.venue.report(order, session_id), status="NEW", cum_qty=0, cum_quote_qty=0)
        bodies: list[AnyMessage] = [new]
        bodies += [msgspec.structs.replace(trade, session_id=session_id) for trade in order.trades]
        bodies.append(self.venue.report(order, session_id))
        bodies.append(SpotBalancesReported(session_id, self.venue.account(), scheduler.now_ns))
        for body in bodies:
            if scheduler.chance(rates.report_lost):
                continue
            late_ns = 2 * SECOND if scheduler.chance(rates.report_late) else 5 * MS
            for _ in range(2 if scheduler.chance(rates.report_duplicated) else 1):
                self.later(MS // 10, late_ns, "user stream", lambda body=body: self.tell(body))  # type: ignore[misc]

    def _query(self, command: QuerySpotOrder) -> None:
        order = self.venue.orders.get(command.client_order_id)
        failed = ("order",) if self.scheduler.chance(self.simulation.rates.query_fails) else ()
        trades = tuple(
            msgspec.structs.replace(trade, session_id=command.session_id) for trade in (order.trades if order else ())
        )
        self.tell(
            SpotOrderRead(
                session_id=command.session_id,
                request_id=command.request_id,
                symbol=command.symbol,
                client_order_id=command.client_order_id,
                order=self.venue.report(order, command.session_id) if order and not failed else None,
                trades=() if failed else trades,
                taken_ns=self.scheduler.now_ns,
                failed=failed,
            )
        )

    def _account(self, command: ReadSpotAccount) -> None:
        failed = ("account",) if self.scheduler.chance(self.simulation.rates.query_fails) else ()
        balances = {} if failed else self.venue.account()
        self.tell(
            SpotAccountRead(command.session_id, command.request_id, balances, (), True, self.scheduler.now_ns, failed)
        )


class CycleFile:
    """The lines of outcomes: what is written stays, whoever dies."""

    def __init__(self) -> None:
        self.lines: list[CycleOutcome] = []

    def write(self, outcome: CycleOutcome) -> None:
        """As the real one: not twice."""
        if all(line.attempt_id != outcome.attempt_id for line in self.lines):
            self.lines.append(outcome)


class ExecutorSimDriver(Driver):
    """Quotes from the model market, now and then not live; lines into a file that stays."""

    def __init__(self, incarnation: Incarnation, simulation: Simulation, venue: SpotVenue, file: CycleFile) -> None:
        super().__init__(incarnation, simulation)
        self.venue, self.file = venue, file
        self.resumed_ns = 0

    def post(self, command: AnyMessage) -> None:
        """Take a command, a moment later."""
        self.later(1_000, 3 * MS, f"executor driver {type(command).__name__}", lambda: self._do(command))

    def resume(self) -> None:
        """A person's word."""
        self.tell(CyclesResumed(self.scheduler.now_ns, "looked at"))

    def _do(self, command: AnyMessage) -> None:
        match command:
            case StartExecutor():
                pass
            case ReadQuotes():
                quotes = tuple(self._quote(name) for name in command.symbols)
                self.tell(QuotesRead(command.request_id, quotes, self.scheduler.now_ns))
            case WriteCycleLine():
                self.file.write(command.outcome)
                self.tell(CycleLineWritten(command.outcome.attempt_id))
            case _:
                raise AssertionError(f"no such command: {command}")

    def _quote(self, name: str) -> Quote:
        bid, ask = self.venue.top(name)
        verdict = "feed_dead" if self.scheduler.chance(0.05 * self.simulation.faulty) else "live"
        return Quote(name, verdict, bid, 10**9, ask, 10**9, 2, 1_000_000)


class EvaluatorSimDriver(Driver):
    """Finds a cycle now and then, good or bad: the executor has to look for itself."""

    def __init__(self, incarnation: Incarnation, simulation: Simulation, venue: SpotVenue) -> None:
        super().__init__(incarnation, simulation)
        self.venue = venue
        self.epoch = 0
        self.number = 0

    def post(self, command: AnyMessage) -> None:
        """Take `StartEvaluator`."""
        assert isinstance(command, StartEvaluator)
        self.epoch = command.epoch
        self.later(MS, 100 * MS, "evaluator ready", self._ready)

    def _ready(self) -> None:
        self.tell(EvaluatorReady("image", len(LISTED), len(CYCLES)))
        self.later(10 * MS, SECOND, "find", self._find)

    def _find(self) -> None:
        self.later(100 * MS, 3 * SECOND, "find", self._find)
        if not self.simulation.faulty:
            return
        now_ns, (rows, sides) = self.scheduler.now_ns, self.scheduler.random.choice(CYCLES)
        symbols = [LISTED[row] for row in rows]
        read = []
        for symbol in symbols:
            bid, ask = self.venue.top(symbol.name)
            read.append((Verdict.LIVE, Row(2, bid, 10**9, ask, 10**9, 1, now_ns, 1)))
        terms = Terms((FEE_E8,) * 3, 1_000 * 10**8, Fraction(1, 2))
        decision = decide(0, "USDT", symbols, sides, read, terms, now_ns)
        if decision.refusal is not None:
            return
        self.number += 1
        self.tell(
            OpportunityFound(
                opportunity_id=f"{self.incarnation.host.name}:e{self.epoch}.{self.number}",
                cycle=decision.path(),
                gross_return=decision.gross_return,
                net_return=decision.net_return,
                start_asset=decision.start_asset,
                start_amount=format_fixed8(decision.spent),
                end_amount=format_fixed8(decision.received),
                legs=tuple(
                    LegUsed(f"{leg.symbol}:{leg.side}", *leg.row[1:5], leg.row.sequence, 1, leg.age_ns)
                    for leg in decision.legs
                ),
                ts_event_ns=now_ns,
                dry_run=False,
                plan=plan_of(decision, symbols, terms.fees_e8),
                evaluated_ns=decision.evaluated_ns,
            )
        )
