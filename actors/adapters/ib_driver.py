"""The broker's driver: sessions with an IB gateway through ib_insync, on a worker thread.

Owner: a broker actor. A session begins with `SessionOpened`, after every start-up request was answered, and ends with
`SessionLost`: the socket closed, a probe went unanswered (half open), or the gateway lost its server (1100; the
socket then stays, and a new session begins after 1101 or 1102). A notice about a data farm never ends a session.

A submission ends in exactly one of `SubmitWritten` (its bytes were handed to the socket), `SubmitNotSent` (not one
byte left), `SubmitRefused` (nor here: an entry too far from the market's last price, or without one), or nothing,
when nobody can know: then `SessionLost` follows. Orders and cancels go out in the order in which they were posted.
Reports carry the session in which they came and keep their order; nothing is reported while a session is being
opened, because it is read again by `QueryVenue`. The first `QueryVenue` of a session is answered by what was read to
open it, if nothing was told and nothing written since: to read it again would bring the same.

Full: a submission beyond `ORDERS_MAX` waiting ones is `SubmitNotSent`, a cancel or change is answered by an
error report, a query by a `VenueRead` in which all failed, a contract by a `ContractRead` without terms. Pacing is
ours (45 messages/s): nothing waits inside the library.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from ib_insync.wrapper import RequestError

from actors.adapters.assembly import BeatReturned
from actors.adapters.ib_account import AccountReading
from actors.adapters.ib_contracts import Contracts, explained
from actors.adapters.ib_forms import FormError
from actors.adapters.ib_keeper import Connection, Keeper, first_of
from actors.adapters.ib_last_prices import LastPrices
from actors.adapters.ib_link import REQUEST_IDS_FROM, Link, LinkLost, Unanswered
from actors.adapters.ib_reading import COMPLETED_ORDERS, EXECUTIONS, OPEN_ORDERS, POSITIONS, Reading
from actors.adapters.ib_submissions import Refused, Submissions, protects_only
from actors.adapters.ib_wrapper import Observer
from actors.adapters.worker import Worker, end_process
from actors.messages import (
    AnyMessage,
    CancelVenueOrder,
    CommissionReported,
    ContractRead,
    ExecutionReported,
    Leg,
    ModifyOrder,
    OrderReported,
    QueryVenue,
    ReadContract,
    SessionLost,
    SessionOpened,
    SubmitOrders,
    VenueErrorReported,
    VenueHolding,
    VenuePosition,
    VenueRead,
)
from actors.ports import Clock
from config import interlock
from kernels import ids
from kernels.market_collar import MarketCollar, held_against
from kernels.sizing import Refused as Objection

QUERIES_MAX = 16
AT_OPENING_NS = 2_000_000_000
"""For so long what was read to open a session stands for a reading of it."""
WAY_S = 0.005
"""An order's bytes go before whatever the actor has still to tell others, for so long at most."""
CONTRACTS_ASKED_MAX = 128
"""Contracts that are asked for and not yet answered."""
CONTRACTS_AT_ONCE = 2
"""So many of them speak to the gateway at a time: an order never queues behind all at the pace of the connection."""

ENTRY = Leg.ENTRY.value
LIBRARY_CODE = 0
"""Code of a report that stands for an ERROR record of the library; IB's own codes are positive."""
CANNOT_CONNECT_CODE = 502

BROKEN_CODE = 2110
LOST_CODES = frozenset({1100, BROKEN_CODE})
RESTORED_CODES = frozenset({1101, 1102})
FARM_CODES = range(2100, 2200)


class IbSettings(Connection, frozen=True, kw_only=True):
    """`run_prefix` is unique for ever: run id and incarnation. Account empty: the gateway's only one."""

    run_prefix: str
    account: str = ""
    mode: interlock.Mode = "paper"
    first_price_s_max: float = 10.0
    """How long the first order of a stock waits for its first price, beside all other orders."""
    recheck_s: float = 60.0
    """After 2110, which IB says ends by itself, the gateway is read again so often even without a 1101 or 1102."""


class IbDriver(Observer):
    """See the module. `start`, `post`, `drain`, `fileno`, `beat` and `stop` are the actor's; all else is the loop's."""

    def __init__(
        self,
        settings: IbSettings,
        clock: Clock,
        halted: Callable[[], str],
        random_unit: Callable[[], float],
        die: Callable[[str], None] = end_process,
        reduces_risk: Callable[[SubmitOrders], bool] = protects_only,
        collar: MarketCollar | None = None,
        prices: LastPrices | None = None,
    ) -> None:
        """`prices` are started and stopped with this driver; without a `collar` entries are not held against them."""
        if collar is not None and prices is None:
            raise ValueError("a collar needs prices")
        self.settings = settings
        self._clock = clock
        self._worker: Worker[AnyMessage, AnyMessage | BeatReturned] = Worker(f"ib.{settings.client_id}", die)
        self._keeper = Keeper(
            self._worker, self, settings, clock, random_unit, self._serve, self._link_ended, self._library_failed
        )
        self._prices = prices
        self._collar = collar
        self._contracts = Contracts(clock, settings.contract_s_max)
        parts = (self._link_of, self._contracts, self._objects)
        self._submissions = Submissions(self._worker, settings, clock, halted, reduces_risk, *parts)
        self._contracts_asked: set[str] = set()
        self._session_numbers = itertools.count(1)
        self._session_id = ""
        self._opening = True
        self._suspended = 0
        self._reading: Reading | None = None
        self._at_opening: tuple[Reading, int, int] | None = None
        """What was read to open the session, and from when to when; None as soon as anything has changed."""

    # ---- the actor's side

    def start(self) -> None:
        """Begin to connect; on the actor's thread, after the fork."""
        if self._prices is not None:
            self._prices.start()
        self._worker.start(self._main, self._take, BeatReturned)

    def post(self, command: AnyMessage) -> None:
        """Take SubmitOrders, ModifyOrder, CancelVenueOrder, QueryVenue or ReadContract; else the process ends."""
        self._worker.post(command, WAY_S)

    def fileno(self) -> int:
        """Readable while events wait."""
        return self._worker.fileno()

    def drain(self) -> list[AnyMessage | BeatReturned]:
        """All events that wait, in order."""
        return self._worker.drain()

    def beat(self, nonce: int) -> None:
        """Send a heartbeat through the loop."""
        self._worker.beat(nonce)

    def stop(self) -> None:
        """End the thread and drop the socket, within seconds."""
        self._worker.stop()
        if self._prices is not None:
            self._prices.stop()

    # ---- sessions

    async def _main(self) -> None:
        self._contracts.open()
        self._submissions.open()
        self._queries: asyncio.Queue[QueryVenue] = asyncio.Queue(QUERIES_MAX)
        self._disturbed = asyncio.Event()
        self._read_turn = asyncio.Lock()
        self._contracts_turn = asyncio.Semaphore(CONTRACTS_AT_ONCE)
        self._worker.spawn(self._submissions.run(), "submissions")
        self._worker.spawn(self._answer_queries(), "queries")
        await self._keeper.run()

    async def _serve(self, link: Link) -> None:
        """Open sessions on this connection, one after the other, until it is lost. Raises LinkLost, Unanswered."""
        self._suspended = 0
        while not link.lost.done():
            self._disturbed.clear()
            if self._suspended:
                recheck_s = self.settings.recheck_s if self._suspended == BROKEN_CODE else None
                if await first_of(self._disturbed, link, recheck_s):
                    continue
            self._set_opening(True)
            next_order_id, venue_next_order_id = await self._read_everything(link)
            self._set_opening(False)
            if self._disturbed.is_set():
                continue
            self._suspended = 0
            self._begin_session(link, next_order_id, venue_next_order_id)
            await first_of(self._disturbed, link)
        raise LinkLost(link.lost.result())

    def _set_opening(self, opening: bool) -> None:
        self._opening, self._keeper.probing = opening, not opening

    def _link_ended(self, reason: str) -> None:
        if not self._session_id and self._opening:
            self._explain(CANNOT_CONNECT_CODE, reason)
        self._end_session(reason)
        self._set_opening(True)

    async def _read_everything(self, link: Link) -> tuple[int, int]:
        """Ask every start-up request and check each answer; return the next order id to draw, and the gateway's own.

        Raises LinkLost, Unanswered.
        """
        seconds_max = self.settings.request_s_max
        account = self.settings.account
        if fault := interlock.session_fault(self.settings.mode, link.accounts):
            raise LinkLost(fault)
        if account and account not in link.accounts:
            raise LinkLost(f"account {account} is not among the gateway's: {', '.join(link.accounts)}")
        if not account and len(link.accounts) != 1:
            raise LinkLost(f"the gateway has {len(link.accounts)} accounts, and the settings name none")
        async with self._read_turn:
            await link.current_time(seconds_max)
            next_order_id = await link.order_ids(seconds_max)
            begun_ns = self._clock.now_ns()
            values = AccountReading(account or link.accounts[0], begun_ns)
            reading = self._reading = Reading(account=values)
            await reading.run(link, seconds_max)
            self._reading = None
        if reading.failed or reading.unanswered:
            reason = reading.unanswered or f"not answered: {', '.join(reading.failed)}"
            raise LinkLost(f"start-up requests: {link.lost.result() if link.lost.done() else reason}")
        self._at_opening = reading, begun_ns, self._clock.now_ns()
        # After the nightly restart the next id has been seen to roll back below ids in use.
        return max(next_order_id, reading.highest_order_id(self.settings.client_id) + 1), next_order_id

    def _begin_session(self, link: Link, next_order_id: int, venue_next_order_id: int) -> None:
        number = next(self._session_numbers)
        self._session_id = link.session_id = f"{self.settings.run_prefix}-{self._clock.now_ns()}-{number}"
        self._submissions.forget_written()
        self._contracts.forget_rules()
        self._worker.count("sessions")
        self._keeper.serving()
        account = self.settings.account or link.accounts[0]
        ids = (next_order_id, venue_next_order_id)
        self._worker.emit(SessionOpened(self._session_id, account, self.settings.client_id, *ids))

    def _end_session(self, reason: str) -> None:
        if self._session_id:
            session_id, self._session_id = self._session_id, ""
            self._worker.count("sessions_lost")
            self._worker.emit(SessionLost(session_id, reason))

    # ---- commands

    def _take(self, command: AnyMessage) -> None:
        match command:
            case SubmitOrders() | ModifyOrder() | CancelVenueOrder():
                self._at_opening = None
                self._submissions.take(command)
            case QueryVenue() if self._queries.full():
                self._nothing_read(command)
            case QueryVenue():
                self._queries.put_nowait(command)
            case ReadContract(symbol=symbol) if symbol in self._contracts_asked:
                self._worker.count("contracts_asked_again")
            case ReadContract(symbol=symbol) if len(self._contracts_asked) >= CONTRACTS_ASKED_MAX:
                fault = f"{CONTRACTS_ASKED_MAX} contracts are being read already"
                self._worker.emit(ContractRead(command.session_id, symbol, fault=fault))
            case ReadContract(symbol=symbol):
                self._contracts_asked.add(symbol)
                self._worker.spawn(self._read_contract(command), f"contract {symbol}")
            case _:
                raise TypeError(f"no command for a broker's driver: {command}")

    def _link_of(self, session_id: str) -> Link:
        if session_id != self._session_id:
            raise Refused(f"session {session_id} is over; {self._session_id or 'none'} is current")
        link = self._keeper.link
        if link is None or not link.usable():
            raise Refused("not connected")
        return link

    async def _read_contract(self, command: ReadContract) -> None:
        """Answer with the terms, once there is a price too or none came in time; beside all orders."""
        symbol, fault, terms = command.symbol, "", None
        try:
            async with self._contracts_turn:
                terms = await self._contracts.terms(self._link_of(command.session_id), symbol)
        except (Refused, LinkLost, Unanswered, RequestError, LookupError, FormError) as error:
            fault = explained(error)
        if terms is not None and self._prices is not None:
            waiting = asyncio.wrap_future(self._prices.watch(symbol))
            await asyncio.wait({waiting}, timeout=self.settings.first_price_s_max)
        self._contracts_asked.discard(symbol)
        self._worker.count("contracts_read" if terms is not None else "contracts_unknown")
        self._worker.emit(ContractRead(command.session_id, symbol, terms, fault))

    def _objects(self, command: SubmitOrders) -> Objection | str:
        """Hold an entry against the last price: by what is known now, without waiting for anything."""
        if self._collar is None or self._prices is None:
            return ""
        for ticket in command.tickets:
            parsed = ids.parse(ticket.client_order_id)
            if parsed is None or parsed.leg != ENTRY:
                continue
            last = self._prices.last(ticket.symbol)
            px, heard_ns = (last.px, last.heard_ns) if last is not None else (0, 0)
            told = (ticket.limit_px, command.reference_px, px, heard_ns, self._clock.now_ns())
            return held_against(self._collar, *told)
        return ""

    async def _answer_queries(self) -> None:
        while True:
            command = await self._queries.get()
            link = self._keeper.link
            if link is None or command.session_id != self._session_id:
                self._nothing_read(command)
                continue
            if (known := self._known(command)) is not None:
                self._worker.count("queries_known")
                self._worker.emit(known)
                continue
            async with self._read_turn:
                begun_ns = self._clock.now_ns()
                account = AccountReading(self.settings.account or link.accounts[0], begun_ns)
                reading = self._reading = Reading(command.positions_only, account)
                await reading.run(link, self.settings.request_s_max)
                self._reading = None
            self._worker.count("queries")
            taken_ns = self._clock.now_ns()
            self._worker.emit(reading.result(command.session_id, command.request_id, begun_ns, taken_ns))
            if reading.unanswered:
                # Answers carry no request number: a late one would be taken for the answer to the next request.
                link.lose(reading.unanswered)

    def _known(self, command: QueryVenue) -> VenueRead | None:
        """Answer from what was read to open the session, once, while that is all there is to know."""
        known, self._at_opening = self._at_opening, None
        if known is None or command.positions_only or self._clock.now_ns() - known[2] > AT_OPENING_NS:
            return None
        reading, begun_ns, taken_ns = known
        return reading.result(command.session_id, command.request_id, begun_ns, taken_ns)

    def _news(self) -> None:
        """Something was told: what was read before, other than by the reading under way, is no longer all."""
        if self._reading is None:
            self._at_opening = None

    def _nothing_read(self, command: QueryVenue) -> None:
        reading = Reading(command.positions_only)
        all_of_it = (OPEN_ORDERS, COMPLETED_ORDERS, EXECUTIONS, POSITIONS)
        reading.failed.extend((POSITIONS,) if command.positions_only else all_of_it)
        self._worker.count("queries_refused")
        now_ns = self._clock.now_ns()
        self._worker.emit(reading.result(command.session_id, command.request_id, now_ns, now_ns))

    # ---- what the link tells

    def order_reported(self, report: OrderReported) -> None:
        """See Observer. A completed order comes only because it was asked for, and goes into the reading."""
        self._news()
        if self._reading is not None:
            self._reading.order(report)
        if not self._opening and not report.completed:
            self._worker.emit(report)

    def execution_reported(self, request_id: int, report: ExecutionReported) -> None:
        """See Observer."""
        self._news()
        if self._reading is not None:
            self._reading.execution(report)
        if not self._opening and request_id < 0:
            self._worker.emit(report)

    def commission_reported(self, report: CommissionReported) -> None:
        """See Observer. That of an execution in the reading comes with the reading."""
        self._news()
        if self._reading is not None and self._reading.commission(report):
            return
        if not self._opening:
            self._worker.emit(report)

    def position_reported(self, report: VenuePosition) -> None:
        """See Observer. Live ones are left: positions are compared on readings. What is held is to have a price."""
        self._news()
        if self._prices is not None and report.qty:
            self._prices.watch(report.symbol)
        if self._reading is not None:
            self._reading.position(report)

    def account_value_reported(self, account: str, key: str, value: str, currency: str) -> None:
        """See Observer."""
        if self._reading is not None and self._reading.account is not None:
            self._reading.account.value(account, key, value, currency)

    def holding_reported(self, account: str, holding: VenueHolding) -> None:
        """See Observer."""
        if self._reading is not None and self._reading.account is not None:
            self._reading.account.holding(account, holding)

    def error_reported(self, request_id: int, code: int, text: str) -> None:
        """See Observer. Evidence for all of them; connectivity codes end or renew the session."""
        order_id = request_id if 0 < request_id < REQUEST_IDS_FROM else 0
        key = ("notice", code) if code in FARM_CODES and not order_id else None
        self._worker.emit(VenueErrorReported(self._session_id, order_id, code, text), key)
        if code in LOST_CODES:
            self._suspended = self._suspended or code
        elif code in RESTORED_CODES:
            self._suspended = 0
        else:
            return
        self._end_session(f"{code}: {text}")
        self._disturbed.set()

    def undecodable(self, text: str) -> None:
        """See Observer."""
        self._library_failed(text)

    def _library_failed(self, text: str) -> None:
        self._worker.count("library_errors")
        if self._reading is not None:
            self._reading.damaged = True
        self._explain(LIBRARY_CODE, text)

    def _explain(self, code: int, text: str) -> None:
        self._worker.emit(VenueErrorReported(self._session_id, 0, code, text), ("explained", code, text))
