"""Spot orders and cancels on their way: written at most once, each with one outcome that is known for what it is.

Everything that takes time (tokens, a connection) comes before the last check, and nothing between the check and the
write. An order is `SpotOrderNotSent`, or `SpotOrderWritten` and then: reports, `SpotOrderRefused`, or
`SpotOutcomeUnknown`. An order that was written is never written again by this process, whatever is asked: what was
told of it is told again. Orders go out in the order in which they were posted; their replies are awaited side by side.

Full: beyond `ORDERS_MAX` waiting ones an order is `SpotOrderNotSent` and a cancel is counted. Of orders written the
last `WRITTEN_MAX` are known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from actors.adapters import spot_forms
from actors.adapters.spot_http import Connection, NotConnected, Unanswered
from actors.adapters.spot_rest import Away, NotAdmitted, SpotRest, VenueRefused
from actors.adapters.worker import Worker
from actors.messages import (
    CancelSpotOrder,
    SpotOrderNotSent,
    SpotOrderRefused,
    SpotOrderWritten,
    SpotOutcomeUnknown,
    SubmitSpotOrder,
)
from actors.ports import Clock

ORDERS_MAX: Final = 256
WRITTEN_MAX: Final = 20_000
ORDER_PATH: Final = "/api/v3/order"


class NotSent(RuntimeError):
    """Not one byte of the order leaves; the text says why."""


class SpotSubmissions:
    """On the loop's thread only."""

    def __init__(
        self,
        worker: Worker[Any, Any],
        rest: SpotRest,
        clock: Clock,
        halted: Callable[[], str],
        current_session: Callable[[], str],
        clock_is_wrong: Callable[[], None],
    ) -> None:
        """`halted` returns a latched halt's reason; `clock_is_wrong` is called when the venue refuses our time."""
        self._worker, self._rest, self._clock = worker, rest, clock
        self._halted, self._current_session, self._clock_is_wrong = halted, current_session, clock_is_wrong
        self._told: dict[str, list[SpotOrderWritten | spot_forms.SpotNews]] = {}
        self._orders: asyncio.Queue[SubmitSpotOrder | CancelSpotOrder] = asyncio.Queue(ORDERS_MAX)

    def take(self, command: SubmitSpotOrder | CancelSpotOrder) -> None:
        """Queue a command behind those before it."""
        if not self._orders.full():
            self._orders.put_nowait(command)
        elif isinstance(command, SubmitSpotOrder):
            self._not_sent(command, f"{ORDERS_MAX} orders and cancels wait already")
        else:
            self._worker.count("cancels_refused")

    async def run(self) -> None:
        """Write what was taken, in order, until cancelled."""
        while True:
            match await self._orders.get():
                case SubmitSpotOrder() as submit:
                    await self._submit(submit)
                case CancelSpotOrder() as cancel:
                    self._worker.spawn(self._cancel(cancel), "cancel")

    async def _submit(self, command: SubmitSpotOrder) -> None:
        name = command.ticket.client_order_id
        if name in self._told:
            self._worker.count("submissions_repeated")
            for message in self._told[name]:
                self._worker.emit(message)
            return
        try:
            connection = await self._ready(command)
        except (NotSent, NotAdmitted, NotConnected) as error:
            self._not_sent(command, str(error))
            return
        # Checked in this very step; from here on nothing is claimed: bytes may have left.
        connection.write(self._rest.request("POST", ORDER_PATH, spot_forms.order_params(command.ticket), "signed"))
        self._worker.count("orders_written")
        self._tell(name, SpotOrderWritten(command.session_id, name, self._clock.now_ns()))
        self._worker.spawn(self._await_reply(command, connection), "order reply")

    async def _ready(self, command: SubmitSpotOrder) -> Connection:
        """Do what takes time, and check last. Raises NotSent, NotAdmitted, NotConnected."""
        self._check(command)
        await self._rest.admit(1, 1, command.not_after_ns)
        connection = await self._rest.connections.take()
        try:
            self._check(command)
        except NotSent:
            self._rest.connections.give_back(connection)
            raise
        return connection

    def _check(self, command: SubmitSpotOrder) -> None:
        current = self._current_session()
        if command.session_id != current:
            raise NotSent(f"session {command.session_id} is over; {current or 'none'} is current")
        if (reason := self._halted()) and not command.reduces_risk:
            raise NotSent(f"halted: {reason}")
        if (late_ns := self._clock.now_ns() - command.not_after_ns) >= 0:
            raise NotSent(f"{late_ns // 1_000_000} ms late")

    async def _await_reply(self, command: SubmitSpotOrder, connection: Connection) -> None:
        ticket, session_id = command.ticket, command.session_id
        found: tuple[spot_forms.SpotNews, ...]
        try:
            reply = await connection.reply(self._rest.limits.request_s_max)
        except Unanswered as error:
            found = (SpotOutcomeUnknown(session_id, ticket.client_order_id, str(error)),)
        else:
            self._rest.note(reply)
            found = spot_forms.outcome(session_id, ticket, reply.status, reply.body)
        finally:
            self._rest.connections.give_back(connection)
        match found[0]:
            case SpotOutcomeUnknown():
                self._worker.count("orders_unknown")
            case SpotOrderRefused(code=code):
                self._worker.count("orders_refused")
                if code == spot_forms.BAD_TIMESTAMP:
                    self._clock_is_wrong()
            case _:
                self._worker.count("orders_answered")
        for message in found:
            self._tell(ticket.client_order_id, message)

    async def _cancel(self, command: CancelSpotOrder) -> None:
        if command.session_id != self._current_session():
            self._worker.count("cancels_refused")
            return
        params = {"symbol": command.symbol, "origClientOrderId": command.client_order_id}
        try:
            body = await self._rest.call("DELETE", ORDER_PATH, params, 1, "signed")
            report = spot_forms.order_report(command.session_id, body)
        except (Away, VenueRefused, spot_forms.Unreadable):
            self._worker.count("cancels_unanswered")
            return
        self._worker.count("cancels_answered")
        self._worker.emit(report)

    def _tell(self, name: str, message: SpotOrderWritten | spot_forms.SpotNews) -> None:
        told = self._told.get(name)
        if told is None:
            told = self._told[name] = []
            if len(self._told) > WRITTEN_MAX:
                del self._told[next(iter(self._told))]
        told.append(message)
        self._worker.emit(message)

    def _not_sent(self, command: SubmitSpotOrder, reason: str) -> None:
        self._worker.count("submissions_refused")
        self._worker.emit(SpotOrderNotSent(command.session_id, command.ticket.client_order_id, reason))
