"""Orders and cancels on their way to the socket, one after the other, each with one known outcome.

A submission ends in exactly one of `SubmitWritten`, `SubmitNotSent`, `SubmitRefused` (a guard at the socket objects to
an entry), or nothing: then bytes may have left, and the link is declared lost. Everything that takes time (contract
details, pacing) comes before the last check, and nothing between the check and the write. A submission that nothing
stands before, and that has nothing to wait for, is written in the step that takes it. The same submission delivered
again in its session is written once and told twice.

Full: beyond `ORDERS_MAX` waiting ones a submission is `SubmitNotSent`, and a cancel is answered by an error report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from ib_insync.contract import Contract
from ib_insync.wrapper import RequestError

from actors.adapters import ib_forms
from actors.adapters.ib_contracts import Contracts
from actors.adapters.ib_keeper import Connection
from actors.adapters.ib_link import Link, LinkLost, Unanswered
from actors.adapters.worker import Worker
from actors.messages import (
    CancelVenueOrder,
    ModifyOrder,
    SubmitNotSent,
    SubmitOrders,
    SubmitRefused,
    SubmitWritten,
    VenueErrorReported,
)
from actors.ports import Clock
from kernels import ids
from kernels.sizing import Refused as Objection

ORDERS_MAX = 1_000
WRITTEN_MAX = 20_000
NOT_CONNECTED_CODE = 504
"""IB's own code for it, on the client's side."""


Command = SubmitOrders | ModifyOrder | CancelVenueOrder


Objects = Callable[[SubmitOrders], Objection | str]
"""The guard at the socket: an objection, or the name of a degraded way that lets it through (empty: none)."""


class Unflushed(msgspec.Struct, frozen=True):
    """Orders that were written in the step that took them, and of which some bytes still wait for the socket."""

    command: SubmitOrders
    link: Link
    degraded: str = ""


class Refused(RuntimeError):
    """Not one byte of the command leaves; the text says why."""


class Objected(RuntimeError):
    """Not one byte of the command leaves, for good: a guard objected."""

    def __init__(self, objection: Objection) -> None:
        super().__init__(objection.guard)
        self.objection = objection


def no_objection(command: SubmitOrders) -> Objection | str:
    """Let everything through."""
    return ""


def protects_only(command: SubmitOrders) -> bool:
    """Whether every order is a protective leg by its id: these may go out while halted."""
    parsed = [ids.parse(ticket.client_order_id) for ticket in command.tickets]
    return bool(parsed) and all(found is not None and found.leg != "entry" for found in parsed)


class Submissions:
    """On the loop's thread only. `link_of` returns the link of a session, or raises Refused where it is over."""

    def __init__(
        self,
        worker: Worker[Any, Any],
        connection: Connection,
        clock: Clock,
        halted: Callable[[], str],
        reduces_risk: Callable[[SubmitOrders], bool],
        link_of: Callable[[str], Link],
        contracts: Contracts,
        objects: Objects = no_objection,
    ) -> None:
        self._worker = worker
        self._connection = connection
        self._clock = clock
        self._halted = halted
        self._reduces_risk = reduces_risk
        self._link_of = link_of
        self._contracts = contracts
        self._objects = objects
        self._written: dict[tuple[str, ...], SubmitWritten] = {}

    def open(self) -> None:
        """Make what belongs to the running loop; before `take` and `run`."""
        self._orders: asyncio.Queue[Command | Unflushed] = asyncio.Queue(ORDERS_MAX)
        self._idle = False

    def take(self, command: Command) -> None:
        """Write a submission now if nothing stands in its way; else queue the command behind those before it."""
        if isinstance(command, SubmitOrders) and self._idle and self._orders.empty() and self._at_once(command):
            return
        if not self._orders.full():
            self._orders.put_nowait(command)
        elif isinstance(command, SubmitOrders):
            self._not_sent(command, f"{ORDERS_MAX} orders and cancels wait already")
        else:
            self._not_asked(command, f"{ORDERS_MAX} orders and cancels wait already")

    def forget_written(self) -> None:
        """A new session begins: what was written in the old one is not known to be the same."""
        self._written.clear()

    async def run(self) -> None:
        """Write what was taken, in order, until cancelled."""
        while True:
            self._idle = True
            command = await self._orders.get()
            self._idle = False
            match command:
                case SubmitOrders():
                    await self._submit(command)
                case Unflushed(command=submit, link=link, degraded=degraded):
                    self._written_or_lost(submit, link, await link.flush(), degraded)
                case ModifyOrder():
                    await self._modify(command)
                case CancelVenueOrder():
                    await self._cancel(command)

    def _at_once(self, command: SubmitOrders) -> bool:
        """Write in this very step; False where something has to be waited for, and then nothing was done."""
        known = map(self._contracts.known, (ticket.symbol for ticket in command.tickets))
        contracts = [contract for contract in known if contract is not None]
        if len(contracts) < len(command.tickets):
            return False
        if self._repeated(command):
            return True
        try:
            link = self._check(command)
        except Refused as error:
            self._not_sent(command, str(error))
            return True
        try:
            degraded = self._last_word(command)
        except Objected as error:
            self._objected(command, error.objection)
            return True
        if not link.pacer.take_now(len(command.tickets)):
            return False
        self._write(command, link, contracts)
        if link.flushed():
            self._written_or_lost(command, link, link.usable(), degraded)
        else:
            self._orders.put_nowait(Unflushed(command, link, degraded))
        return True

    async def _submit(self, command: SubmitOrders) -> None:
        if self._repeated(command):
            return
        try:
            link, contracts = await self._ready_to_write(command)
            degraded = self._last_word(command)
        except (Refused, LinkLost, Unanswered, RequestError, LookupError) as error:
            self._not_sent(command, str(error))
            return
        except Objected as error:
            self._objected(command, error.objection)
            return
        self._write(command, link, contracts)
        self._written_or_lost(command, link, await link.flush(), degraded)

    def _repeated(self, command: SubmitOrders) -> bool:
        """Tell again what was written in this session already."""
        known = self._written.get(_names(command))
        if known is None or known.session_id != command.session_id or command.resend:
            return False
        self._worker.count("submissions_repeated")
        self._worker.emit(known)
        return True

    def _write(self, command: SubmitOrders, link: Link, contracts: list[Contract]) -> None:
        """From here on a failure claims nothing: bytes may have left."""
        link.write_orders(
            contracts, [ib_forms.order_of(ticket, self._connection.client_id) for ticket in command.tickets]
        )

    def _written_or_lost(self, command: SubmitOrders, link: Link, written: bool, degraded: str) -> None:
        if not written:
            self._worker.count("writes_unknown")
            link.lose("socket failed while orders were written")
            return
        names = _names(command)
        told = SubmitWritten(command.session_id, command.intent_id, names, self._clock.now_ns(), degraded)
        self._worker.count("orders_written", len(names))
        self._worker.emit(told)
        self._written[names] = told
        if len(self._written) > WRITTEN_MAX:
            del self._written[next(iter(self._written))]

    async def _ready_to_write(self, command: SubmitOrders) -> tuple[Link, list[Contract]]:
        """Do what takes time, and check last: the caller writes in the same step. Raises where nothing may be sent."""
        link = self._check(command)
        contracts = [await self._contracts.contract(link, ticket.symbol) for ticket in command.tickets]
        await link.pacer.take(len(command.tickets))
        return self._check(command), contracts

    def _check(self, command: SubmitOrders) -> Link:
        link = self._link_of(command.session_id)
        if len(command.tickets) > self._connection.messages_per_s_max:
            raise Refused(f"{len(command.tickets)} orders at once are more than the gateway takes")
        if fault := ib_forms.tickets_fault(command.tickets):
            raise Refused(fault)
        if (reason := self._halted()) and not self._reduces_risk(command):
            raise Refused(f"halted: {reason}")
        if command.not_after_ns and (late_ns := self._clock.now_ns() - command.not_after_ns) >= 0:
            raise Refused(f"{late_ns // 1_000_000} ms late: the gate's lease or the intent is over")
        return link

    def _last_word(self, command: SubmitOrders) -> str:
        """Hold what opens risk against the market. Raises Objected."""
        if self._reduces_risk(command):
            return ""
        verdict = self._objects(command)
        if isinstance(verdict, Objection):
            raise Objected(verdict)
        return verdict

    async def _cancel(self, command: CancelVenueOrder) -> None:
        try:
            await self._link_of(command.session_id).pacer.take(1)
            link = self._link_of(command.session_id)
        except Refused as error:
            self._not_asked(command, str(error))
            return
        link.cancel_order(command.venue_order_id)
        self._worker.count("cancels_written")

    async def _modify(self, command: ModifyOrder) -> None:
        ticket = command.ticket
        as_submission = SubmitOrders("", command.session_id, (ticket,))
        try:
            link, contracts = await self._ready_to_write(as_submission)
        except (Refused, LinkLost, Unanswered, RequestError, LookupError) as error:
            self._not_asked(command, str(error))
            return
        # From here on a failure claims nothing: bytes may have left.
        link.write_orders(contracts, [ib_forms.order_of(ticket, self._connection.client_id)])
        if not await link.flush():
            self._worker.count("writes_unknown")
            link.lose("socket failed while a change was written")
            return
        self._worker.count("changes_written")

    def _not_sent(self, command: SubmitOrders, reason: str) -> None:
        self._worker.count("submissions_refused")
        self._worker.emit(SubmitNotSent(command.session_id, command.intent_id, _names(command), reason))

    def _objected(self, command: SubmitOrders, objection: Objection) -> None:
        self._worker.count(f"submissions_objected.{objection.guard}")
        told = (objection.guard, objection.figures)
        self._worker.emit(SubmitRefused(command.session_id, command.intent_id, _names(command), *told))

    def _not_asked(self, command: ModifyOrder | CancelVenueOrder, reason: str) -> None:
        if isinstance(command, CancelVenueOrder):
            what, order_id = "cancel", command.venue_order_id
        else:
            what, order_id = "change", command.ticket.venue_order_id
        self._worker.count(f"{what}s_refused")
        text = f"{what} not sent: {reason}"
        self._worker.emit(VenueErrorReported(command.session_id, order_id, NOT_CONNECTED_CODE, text))


def _names(command: SubmitOrders) -> tuple[str, ...]:
    return tuple(ticket.client_order_id for ticket in command.tickets)
