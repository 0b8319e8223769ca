"""Orders and cancels on their way to the socket, one after the other, each with one known outcome.

A submission ends in exactly one of `SubmitWritten`, `SubmitNotSent`, or nothing: then bytes may have left, and the
link is declared lost. Everything that takes time (contract details, pacing) comes before the last check, and nothing
between the check and the write. The same submission delivered again in its session is written once and told twice.

Full: beyond `ORDERS_MAX` waiting ones a submission is `SubmitNotSent`, and a cancel is answered by an error report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ib_insync.contract import Contract
from ib_insync.wrapper import RequestError

from actors.adapters import ib_forms
from actors.adapters.ib_keeper import Connection
from actors.adapters.ib_link import Link, LinkLost, Unanswered
from actors.adapters.worker import Worker
from actors.messages import (
    CancelVenueOrder,
    ModifyOrder,
    SubmitNotSent,
    SubmitOrders,
    SubmitWritten,
    VenueErrorReported,
)
from actors.ports import Clock
from kernels import ids

ORDERS_MAX = 1_000
CONTRACTS_MAX = 5_000
WRITTEN_MAX = 20_000
NOT_CONNECTED_CODE = 504
"""IB's own code for it, on the client's side."""


Command = SubmitOrders | ModifyOrder | CancelVenueOrder


class Refused(RuntimeError):
    """Not one byte of the command leaves; the text says why."""


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
    ) -> None:
        self._worker = worker
        self._connection = connection
        self._clock = clock
        self._halted = halted
        self._reduces_risk = reduces_risk
        self._link_of = link_of
        self._contracts: dict[str, Contract] = {}
        self._written: dict[tuple[str, ...], SubmitWritten] = {}

    def open(self) -> None:
        """Make what belongs to the running loop; before `take` and `run`."""
        self._orders: asyncio.Queue[Command] = asyncio.Queue(ORDERS_MAX)

    def take(self, command: Command) -> None:
        """Queue a command behind those before it."""
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
            match await self._orders.get():
                case SubmitOrders() as submit:
                    await self._submit(submit)
                case ModifyOrder() as modify:
                    await self._modify(modify)
                case CancelVenueOrder() as cancel:
                    await self._cancel(cancel)

    async def _submit(self, command: SubmitOrders) -> None:
        names = _names(command)
        known = self._written.get(names)
        if known is not None and known.session_id == command.session_id and not command.resend:
            self._worker.count("submissions_repeated")
            self._worker.emit(known)
            return
        try:
            link, contracts = await self._ready_to_write(command)
        except (Refused, LinkLost, Unanswered, RequestError, LookupError) as error:
            self._not_sent(command, str(error))
            return
        # From here on a failure claims nothing: bytes may have left.
        orders = [ib_forms.order_of(ticket, self._connection.client_id) for ticket in command.tickets]
        if not await link.write_orders(contracts, orders):
            self._worker.count("writes_unknown")
            link.lose("socket failed while orders were written")
            return
        written = SubmitWritten(command.session_id, command.intent_id, names, self._clock.now_ns())
        self._worker.count("orders_written", len(orders))
        self._worker.emit(written)
        self._written[names] = written
        if len(self._written) > WRITTEN_MAX:
            del self._written[next(iter(self._written))]

    async def _ready_to_write(self, command: SubmitOrders) -> tuple[Link, list[Contract]]:
        """Do what takes time, and check last: the caller writes in the same step. Raises where nothing may be sent."""
        link = self._check(command)
        contracts = [await self._contract(link, ticket.symbol) for ticket in command.tickets]
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

    async def _contract(self, link: Link, symbol: str) -> Contract:
        contract = self._contracts.get(symbol)
        if contract is None:
            contract = await link.stock(symbol, self._connection.contract_s_max)
            if len(self._contracts) >= CONTRACTS_MAX:
                del self._contracts[next(iter(self._contracts))]
            self._contracts[symbol] = contract
        return contract

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
        if not await link.write_orders(contracts, [ib_forms.order_of(ticket, self._connection.client_id)]):
            self._worker.count("writes_unknown")
            link.lose("socket failed while a change was written")
            return
        self._worker.count("changes_written")

    def _not_sent(self, command: SubmitOrders, reason: str) -> None:
        self._worker.count("submissions_refused")
        self._worker.emit(SubmitNotSent(command.session_id, command.intent_id, _names(command), reason))

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
