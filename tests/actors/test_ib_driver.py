"""The IB driver over real sockets against the paper gateway: sessions, submissions, reports, readings, failures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from actors.adapters.assembly import BeatReturned
from actors.adapters.ib_driver import CANNOT_CONNECT_CODE
from actors.adapters.ib_submissions import NOT_CONNECTED_CODE
from actors.messages import (
    CancelVenueOrder,
    CommissionReported,
    ExecutionReported,
    OrderReported,
    QueryVenue,
    SessionLost,
    SessionOpened,
    Side,
    SubmitNotSent,
    SubmitOrders,
    SubmitWritten,
    VenueErrorReported,
    VenueRead,
)
from kernels.fixed8 import SCALE
from tests.actors.ib_bench import Bench, Proxy, bracket, px
from tests.venues.gateway_process import GatewayProcess

pytestmark = pytest.mark.process


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path) as process:
        process.set_price("SPY", "499.98", "500.00")
        yield process


@pytest.fixture
def bench(gateway: GatewayProcess) -> Iterator[Bench]:
    with Bench(gateway.port) as one:
        yield one


@pytest.fixture
def proxy(gateway: GatewayProcess) -> Iterator[Proxy]:
    one = Proxy(gateway.port)
    yield one
    one.close()


def read(bench: Bench, session: SessionOpened, positions_only: bool = False) -> VenueRead:
    bench.driver.post(QueryVenue(session.session_id, f"q{bench.taken}", positions_only))
    return bench.wait(VenueRead)


def statuses(bench: Bench, client_order_id: str) -> list[str]:
    told = [report.status for report in bench.of(OrderReported) if report.client_order_id == client_order_id]
    return [status for status, before in zip(told, [None, *told], strict=False) if status != before]


def test_a_bracket_goes_out_and_every_status_and_execution_is_reported(gateway: GatewayProcess, bench: Bench) -> None:
    session = bench.opened()
    assert session.account == "DU1234567"
    assert session.client_id == 7
    command = bracket(session)
    entry, profit, stop = command.tickets
    bench.driver.post(command)
    written = bench.wait(SubmitWritten)
    assert written.client_order_ids == (entry.client_order_id, profit.client_order_id, stop.client_order_id)
    fill = bench.wait(ExecutionReported)
    assert (fill.client_order_id, fill.side, fill.last_qty, fill.last_px) == (
        entry.client_order_id,
        Side.BUY,
        10 * SCALE,
        px("500.00"),
    )
    assert abs(fill.ts_event_ns - time.time_ns()) < 60 * 10**9
    commission = bench.wait(CommissionReported)
    assert commission.exec_id == fill.exec_id
    assert commission.realized_pnl is None
    bench.until(lambda: statuses(bench, profit.client_order_id)[-1:] == ["Submitted"])
    assert statuses(bench, stop.client_order_id)[-1] == "PreSubmitted"
    gateway.set_price("SPY", "510.01", "510.03")
    exit_fill = bench.wait(ExecutionReported)
    assert (exit_fill.client_order_id, exit_fill.side) == (profit.client_order_id, Side.SELL)
    assert bench.wait(CommissionReported).realized_pnl is not None
    bench.until(lambda: statuses(bench, stop.client_order_id)[-1:] == ["Cancelled"])
    assert statuses(bench, entry.client_order_id)[-1] == "Filled"
    assert statuses(bench, profit.client_order_id)[-1] == "Filled"
    filled = [report for report in bench.of(OrderReported) if report.status == "Filled" and not report.symbol]
    assert {report.filled_qty for report in filled} == {10 * SCALE}
    assert {report.session_id for report in bench.of(OrderReported)} == {session.session_id}
    assert not bench.library_errors()
    assert not bench.of(SessionLost)


def test_a_written_submission_is_told_before_what_the_venue_says_of_it(bench: Bench) -> None:
    bench.driver.post(bracket(bench.opened()))
    bench.wait(ExecutionReported)
    kinds = [type(event) for event in bench.events if not isinstance(event, VenueErrorReported)]
    assert kinds[:3] == [SessionOpened, SubmitWritten, OrderReported]
    assert kinds.index(OrderReported) < kinds.index(ExecutionReported)


def test_a_reading_tells_open_and_completed_orders_executions_and_positions(
    gateway: GatewayProcess, bench: Bench
) -> None:
    session = bench.opened()
    command = bracket(session)
    entry, profit, stop = command.tickets
    bench.driver.post(command)
    bench.until(lambda: statuses(bench, profit.client_order_id)[-1:] == ["Submitted"])
    answer = read(bench, session)
    assert answer.failed == ()
    found = {order.client_order_id: order for order in answer.open_orders}
    assert set(found) == {profit.client_order_id, stop.client_order_id}
    assert found[profit.client_order_id].limit_px == px("510.00")
    assert found[profit.client_order_id].qty == 10 * SCALE
    assert found[stop.client_order_id].stop_px == px("490.00")
    assert found[stop.client_order_id].why_held
    (done,) = answer.completed_orders
    assert (done.client_order_id, done.status, done.filled_qty) == (entry.client_order_id, "Filled", 10 * SCALE)
    assert done.completed
    (execution,) = answer.executions
    assert execution.client_order_id == entry.client_order_id
    assert [commission.exec_id for commission in answer.commissions] == [execution.exec_id]
    (position,) = answer.positions
    assert (position.symbol, position.qty) == ("SPY", 10 * SCALE)
    assert position.avg_px >= px("500.00")
    only = read(bench, session, positions_only=True)
    assert (only.positions, only.open_orders, only.failed) == (answer.positions, (), ())
    assert not bench.library_errors()


def test_a_cancel_is_reported_by_the_venue_and_an_unknown_one_is_only_evidence(bench: Bench) -> None:
    session = bench.opened()
    command = bracket(session, entry_px="480.00", stop_px="470.00")
    entry = command.tickets[0]
    bench.driver.post(command)
    bench.wait(SubmitWritten)
    bench.driver.post(CancelVenueOrder(session.session_id, entry.client_order_id, entry.venue_order_id))
    for ticket in command.tickets:
        bench.until(lambda one=ticket: statuses(bench, one.client_order_id)[-1:] == ["Cancelled"])
    bench.driver.post(CancelVenueOrder(session.session_id, "nobody's", 4242))
    assert bench.wait(VenueErrorReported, lambda error: error.venue_order_id == 4242).code == 10147
    bench.settled()
    assert not bench.of(SessionLost)


def test_an_error_code_changes_no_order(gateway: GatewayProcess, bench: Bench) -> None:
    session = bench.opened()
    command = bracket(session, entry_px="480.00", stop_px="470.00")
    bench.driver.post(command)
    bench.until(lambda: statuses(bench, command.tickets[2].client_order_id)[-1:] == ["PreSubmitted"])
    # A modify that the venue refuses: the library would now call the working order cancelled.
    other = msgspec.structs.replace(command.tickets[0], side=Side.SELL, transmit=True)
    bench.driver.post(SubmitOrders("i2", session.session_id, (other,), resend=True))
    evidence = bench.wait(VenueErrorReported, lambda error: error.venue_order_id == session.next_order_id)
    assert evidence.code in (103, 104, 105)
    reading = read(bench, session)
    assert {order.client_order_id for order in reading.open_orders} == {t.client_order_id for t in command.tickets}
    assert "Cancelled" not in {report.status for report in bench.of(OrderReported)}


def test_while_halted_a_submission_is_not_sent_and_not_one_byte_leaves(gateway: GatewayProcess, proxy: Proxy) -> None:
    with Bench(proxy.port, probe_every_s=600.0) as bench:
        session = bench.opened()
        bench.halt = "by hand"
        before = len(proxy.from_client)
        command = bracket(session)
        bench.driver.post(command)
        refused = bench.wait(SubmitNotSent)
        assert "by hand" in refused.reason
        assert refused.client_order_ids == tuple(ticket.client_order_id for ticket in command.tickets)
        bench.settled()
        assert len(proxy.from_client) == before
        assert gateway.orders() == []
        protective = msgspec.structs.replace(
            command.tickets[2], parent_order_id=0, venue_order_id=session.next_order_id
        )
        bench.driver.post(msgspec.structs.replace(command, tickets=(protective,)))
        assert bench.wait(SubmitWritten).client_order_ids == (protective.client_order_id,)


def test_a_submission_for_another_session_is_not_sent(bench: Bench) -> None:
    session = bench.opened()
    bench.driver.post(msgspec.structs.replace(bracket(session), session_id="run-0.9-1-1"))
    assert "run-0.9-1-1 is over" in bench.wait(SubmitNotSent).reason
    bench.driver.post(QueryVenue("run-0.9-1-1", "q"))
    assert len(bench.wait(VenueRead).failed) == 4
    bench.driver.post(CancelVenueOrder("run-0.9-1-1", "c", 5))
    assert bench.wait(VenueErrorReported, lambda error: error.venue_order_id == 5).code == NOT_CONNECTED_CODE


def test_what_cannot_be_written_is_not_sent_and_says_why(gateway: GatewayProcess, bench: Bench) -> None:
    session = bench.opened()
    whole = bracket(session)
    entry = whole.tickets[0]

    def refused(**changes: object) -> str:
        ticket = msgspec.structs.replace(entry, **changes)
        bench.driver.post(SubmitOrders("i", session.session_id, (ticket,)))
        return bench.wait(SubmitNotSent).reason

    assert "200" in refused(symbol="NOSUCH")
    assert "quantity 0" in refused(qty=0)
    assert "limit price" in refused(limit_px=0)
    assert "text" in refused(account="DU\x001")
    assert "order id 0" in refused(venue_order_id=0)
    bench.driver.post(SubmitOrders("i", session.session_id, ()))
    assert "no tickets" in bench.wait(SubmitNotSent).reason
    bench.settled()
    assert gateway.orders() == []


def test_the_same_submission_delivered_twice_is_written_once(gateway: GatewayProcess, bench: Bench) -> None:
    command = bracket(bench.opened(), entry_px="480.00", stop_px="470.00")
    bench.driver.post(command)
    bench.driver.post(command)
    assert bench.wait(SubmitWritten) == bench.wait(SubmitWritten)
    bench.settled()
    assert len(gateway.orders()) == 3
    assert {error.code for error in bench.of(VenueErrorReported)} <= {2104, 2106, 2158}


def test_a_gateway_killed_in_mid_flight_ends_the_session_and_the_next_one_reads_the_truth(
    gateway: GatewayProcess, bench: Bench
) -> None:
    first = bench.opened()
    gateway.fault("die_at_place", nth=3, when="after")
    command = bracket(first, entry_px="480.00", stop_px="470.00")
    bench.driver.post(command)
    lost = bench.wait(SessionLost)
    assert lost.session_id == first.session_id
    gateway.wait_dead()
    late = bracket(first, "s2", first_order_id=first.next_order_id + 10)
    bench.driver.post(late)
    assert bench.wait(SubmitNotSent).intent_id == late.intent_id
    gateway.restart()
    second = bench.opened()
    assert second.session_id != first.session_id
    assert second.next_order_id >= first.next_order_id
    answer = read(bench, second)
    assert answer.failed == ()
    known = {row["order_ref"] for row in gateway.orders()}
    told = {order.client_order_id for order in (*answer.open_orders, *answer.completed_orders)}
    assert told == known
    assert second.next_order_id > max([order.venue_order_id for order in answer.open_orders], default=0)


def test_a_half_open_socket_is_found_within_ten_seconds(gateway: GatewayProcess, proxy: Proxy) -> None:
    with Bench(proxy.port) as bench:
        first = bench.opened()
        proxy.go_silent()
        began_s = time.monotonic()
        # It goes into the void, and the driver cannot know: it says only that the bytes left.
        bench.driver.post(bracket(first))
        lost = bench.wait(SessionLost)
        assert "half-open" in lost.reason
        settings = bench.settings
        assert settings.probe_every_s + settings.probe_s_max < 10
        print(f"half-open socket found after {time.monotonic() - began_s:.1f} s")
        assert bench.opened().session_id != first.session_id
    assert gateway.orders() == []


def test_a_client_id_in_use_is_told_with_its_reason_and_taken_once_it_is_free(gateway: GatewayProcess) -> None:
    with Bench(gateway.port) as holder:
        holder.opened()
        with Bench(gateway.port) as second:
            told = second.wait(VenueErrorReported, lambda error: error.code == CANNOT_CONNECT_CODE)
            assert "client id 7 is in use" in told.text
            assert not second.of(SessionOpened)
            holder.driver.stop()
            second.opened()


def test_lost_connectivity_ends_the_session_but_not_the_socket_and_its_return_begins_a_new_one(
    gateway: GatewayProcess, proxy: Proxy
) -> None:
    with Bench(proxy.port) as bench:
        first = bench.opened()
        command = bracket(first)
        bench.driver.post(command)
        bench.wait(ExecutionReported)
        gateway.fault("message", code=1100)
        assert "1100" in bench.wait(SessionLost).reason
        bench.driver.post(bracket(first, "s2", first_order_id=first.next_order_id + 10))
        bench.wait(SubmitNotSent)
        gateway.fault("message", code=1100)
        gateway.set_price("SPY", "510.01", "510.03")
        gateway.fault("message", code=1102)
        second = bench.opened()
        assert second.session_id != first.session_id
        assert len(bench.of(SessionLost)) == 1
        assert proxy.connections == 1
        answer = read(bench, second)
        assert len(answer.executions) == 2
        assert answer.positions == ()


def test_a_data_farm_that_blinks_ends_no_session(gateway: GatewayProcess, bench: Bench) -> None:
    session = bench.opened()
    for code in (2103, 2105, 2157, 2107, 2108, 2119, 2104, 2106, 2158):
        gateway.fault("message", code=code)
    bench.wait(VenueErrorReported, lambda error: error.code == 2158 and error.session_id == session.session_id)
    bench.driver.post(bracket(session))
    bench.wait(SubmitWritten)
    bench.wait(ExecutionReported)
    assert not bench.of(SessionLost)


def test_order_ids_that_rolled_back_are_not_used_again_while_they_are_in_use(
    gateway: GatewayProcess, bench: Bench
) -> None:
    first = bench.opened()
    command = bracket(first, entry_px="480.00", stop_px="470.00", first_order_id=first.next_order_id + 500)
    bench.driver.post(command)
    bench.until(lambda: statuses(bench, command.tickets[2].client_order_id)[-1:] == ["PreSubmitted"])
    gateway.fault("next_order_id", client_id=7, value=1)
    gateway.fault("drop")
    bench.wait(SessionLost)
    assert bench.opened().next_order_id > command.tickets[2].venue_order_id


def test_many_submissions_are_paced_below_the_gateways_limit_and_all_arrive(
    gateway: GatewayProcess, bench: Bench
) -> None:
    session = bench.opened()
    for number in range(30):
        first_id = session.next_order_id + 3 * number
        bench.driver.post(bracket(session, f"s{number}", first_order_id=first_id, entry_px="480.00", stop_px="470.00"))
    for _ in range(30):
        bench.wait(SubmitWritten)
    bench.settled()
    gateway.wait_for("all orders", lambda one: len(one.orders()) == 90)
    assert not bench.of(SessionLost)
    assert not bench.library_errors()


def test_submissions_that_still_wait_when_the_session_goes_are_known_not_to_have_left(
    gateway: GatewayProcess, bench: Bench
) -> None:
    session = bench.opened()
    for number in range(40):
        first_id = session.next_order_id + 3 * number
        bench.driver.post(bracket(session, f"s{number}", first_order_id=first_id, entry_px="480.00", stop_px="470.00"))
    for _ in range(10):
        bench.wait(SubmitWritten)
    gateway.fault("drop")
    bench.until(lambda: len(bench.of(SubmitWritten)) + len(bench.of(SubmitNotSent)) >= 40)
    assert len(bench.of(SubmitNotSent)) >= 20
    unsent = {name for event in bench.of(SubmitNotSent) for name in event.client_order_ids}
    assert not unsent & {row["order_ref"] for row in gateway.orders()}


def test_an_undecodable_message_is_evidence_and_never_silent(proxy: Proxy) -> None:
    with Bench(proxy.port) as bench:
        bench.opened()
        proxy.inject(["61", "3", "DU1234567"])
        bench.until(lambda: bool(bench.library_errors()))
        assert "Error handling fields" in bench.library_errors()[0]
        bench.driver.beat(1)
        assert bench.wait(BeatReturned).progress["library_errors"] == 1


def test_a_reading_with_an_undecodable_answer_names_it_as_failed(proxy: Proxy) -> None:
    with Bench(proxy.port) as bench:
        session = bench.opened()
        bench.driver.post(bracket(session))
        bench.wait(ExecutionReported)
        proxy.rewrite = lambda fields: fields[:-1] if fields[0] == "61" else fields
        assert read(bench, session).failed == ("positions",)
        proxy.rewrite = None
        assert read(bench, session).failed == ()


@pytest.mark.parametrize(("ending", "name"), [("53", "open orders"), ("102", "completed orders"), ("62", "positions")])
def test_no_session_opens_while_a_start_up_request_is_not_answered(proxy: Proxy, ending: str, name: str) -> None:
    proxy.rewrite = lambda fields: None if fields[0] == ending else fields
    with Bench(proxy.port, request_s_max=0.3) as bench:
        told = bench.wait(VenueErrorReported, lambda error: error.code == CANNOT_CONNECT_CODE)
        assert f"{name} not answered" in told.text
        assert not bench.of(SessionOpened)
        proxy.rewrite = None
        bench.opened()


def test_a_reading_names_what_was_not_answered_and_the_session_is_begun_anew(proxy: Proxy) -> None:
    with Bench(proxy.port, request_s_max=0.3) as bench:
        first = bench.opened()
        bench.driver.post(bracket(first))
        bench.wait(ExecutionReported)
        proxy.rewrite = lambda fields: None if fields[0] == "102" else fields
        answer = read(bench, first)
        assert answer.failed == ("completed_orders", "executions", "positions")
        assert len(answer.open_orders) == 2
        proxy.rewrite = None
        assert "completed orders" in bench.wait(SessionLost).reason
        assert read(bench, bench.opened()).failed == ()


def test_a_contract_that_is_not_answered_leaves_the_submission_unsent(gateway: GatewayProcess, proxy: Proxy) -> None:
    proxy.rewrite = lambda fields: None if fields[0] == "52" else fields
    with Bench(proxy.port, contract_s_max=0.3) as bench:
        session = bench.opened()
        bench.driver.post(bracket(session))
        assert "contract of SPY not answered" in bench.wait(SubmitNotSent).reason
        assert gateway.orders() == []
        proxy.rewrite = None
        bench.driver.post(bracket(session))
        bench.wait(SubmitWritten)


def test_an_account_that_the_gateway_has_not_is_refused_with_both_names(gateway: GatewayProcess, proxy: Proxy) -> None:
    with Bench(gateway.port, account="DU9") as bench:
        told = bench.wait(VenueErrorReported, lambda error: error.code == CANNOT_CONNECT_CODE)
        assert "DU9" in told.text
        assert "DU1234567" in told.text
    proxy.rewrite = lambda fields: [*fields[:2], "DU1234567,DU2"] if fields[0] == "15" else fields
    with Bench(proxy.port) as bench:
        assert "2 accounts" in bench.wait(VenueErrorReported, lambda error: error.code == CANNOT_CONNECT_CODE).text


def test_an_order_status_names_the_reference_that_an_open_order_told(gateway: GatewayProcess, bench: Bench) -> None:
    command = bracket(bench.opened(), entry_px="480.00", stop_px="470.00")
    bench.driver.post(command)
    bench.until(lambda: len([one for one in bench.of(OrderReported) if not one.symbol]) == 3)
    told = {one.client_order_id: one for one in bench.of(OrderReported) if not one.symbol}
    assert set(told) == {ticket.client_order_id for ticket in command.tickets}
    with Bench(gateway.port, client_id=8) as other:
        answer = read(other, other.opened())
        assert {order.client_order_id for order in answer.open_orders} == set(told)
        assert {order.client_id for order in answer.open_orders} == {7}


@pytest.mark.parametrize("code", [1100, 2110])
def test_after_2110_but_not_after_1100_the_gateway_is_read_again_without_a_word_of_return(
    gateway: GatewayProcess, code: int
) -> None:
    with Bench(gateway.port, recheck_s=0.1, probe_every_s=0.1) as bench:
        bench.opened()
        gateway.fault("message", code=code)
        assert str(code) in bench.wait(SessionLost).reason
        if code == 2110:
            bench.opened()
            return
        bench.driver.beat(1)
        probes = bench.wait(BeatReturned).progress.get("probes", 0)

        def probed() -> bool:
            bench.driver.beat(2)
            return any(one.progress.get("probes", 0) > probes + 3 for one in bench.of(BeatReturned))

        bench.until(probed)
        assert len(bench.of(SessionOpened)) == 1
        gateway.fault("message", code=1101)
        bench.opened()


def test_a_halt_stops_the_submissions_that_still_wait_for_the_pace(gateway: GatewayProcess, bench: Bench) -> None:
    session = bench.opened()
    for number in range(25):
        first_id = session.next_order_id + 3 * number
        bench.driver.post(bracket(session, f"s{number}", first_order_id=first_id, entry_px="480.00", stop_px="470.00"))
    for _ in range(5):
        bench.wait(SubmitWritten)
    bench.halt = "by hand"
    bench.until(lambda: len(bench.of(SubmitWritten)) + len(bench.of(SubmitNotSent)) == 25)
    unsent = bench.of(SubmitNotSent)
    assert unsent
    assert all("by hand" in event.reason for event in unsent)
    assert len(gateway.orders()) == 3 * len(bench.of(SubmitWritten))


def test_what_the_library_would_drop_or_bend_is_reported_raw(proxy: Proxy) -> None:
    with Bench(proxy.port) as bench:
        session = bench.opened()
        # Of an order that this session never saw: the library logs an error and drops it.
        proxy.inject(["3", "900", "Inactive", "4", "6", "500.0", "77", "0", "500.0", "7", "", "0"])
        status = bench.wait(OrderReported)
        assert (status.venue_order_id, status.perm_id, status.status) == (900, 77, "Inactive")
        assert status.filled_qty == 4 * SCALE
        # A commission before its execution, then the execution, its correction, and the first once more.
        proxy.inject(["59", "1", "0001.01.01", "1.0", "USD", "1.7976931348623157E308", "", ""])
        assert bench.wait(CommissionReported) == CommissionReported(session.session_id, "0001.01.01", SCALE, "USD")
        for exec_id, shares in (("0001.01.01", "4"), ("0001.01.02", "5"), ("0001.01.01", "4")):
            proxy.inject(execution_fields(exec_id, shares))
            fill = bench.wait(ExecutionReported)
            assert (fill.exec_id, fill.last_qty, fill.side, fill.client_order_id) == (
                exec_id,
                int(shares) * SCALE,
                Side.SELL,
                "ref",
            )
        assert not bench.library_errors()


def execution_fields(exec_id: str, shares: str) -> list[str]:
    contract = ["756733", "SPY", "STK", "", "0.0", "", "", "ARCA", "USD", "SPY", "SPY"]
    told = [exec_id, "20260105 10:00:00 US/Eastern", "DU1234567", "ARCA", "SLD", shares, "500.00", "77", "7"]
    return ["11", "-1", "900", *contract, *told, "0", shares, "500.00", "ref", "", "", "", "2"]


def test_a_message_that_cannot_be_is_evidence_and_ends_nothing(proxy: Proxy) -> None:
    with Bench(proxy.port) as bench:
        session = bench.opened()
        proxy.inject(["3", "900", "Submitted", "nan", "6", "500.0", "77", "0", "500.0", "7", "", "0"])
        bench.until(lambda: bool(bench.library_errors()))
        assert "order_status: nan is no amount" in bench.library_errors()[0]
        bench.driver.post(bracket(session))
        bench.wait(SubmitWritten)


def test_a_handshake_that_is_none_is_given_up_at_once_and_tried_again(proxy: Proxy) -> None:
    proxy.rewrite = lambda fields: ["x", "y"] if fields[0] == "176" else fields
    with Bench(proxy.port, connect_s_max=600.0) as bench:
        told = bench.wait(VenueErrorReported, lambda error: error.code == CANNOT_CONNECT_CODE)
        assert "the library failed" in told.text
        proxy.rewrite = None
        bench.opened()


def test_a_heartbeat_carries_the_drivers_counters(bench: Bench) -> None:
    bench.driver.post(bracket(bench.opened()))
    bench.wait(ExecutionReported)
    bench.driver.beat(17)
    beat = bench.wait(BeatReturned)
    assert beat.nonce == 17
    assert beat.progress["orders_written"] == 3
    assert beat.progress["sessions"] == 1


def test_latency_from_post_to_written(tmp_path: Path) -> None:
    with (
        GatewayProcess(tmp_path, "--messages-per-s", "0") as gateway,
        Bench(gateway.port, messages_per_s_max=100_000) as bench,
    ):
        session = bench.opened()
        taken_us = []
        for number in range(200):
            first_id = session.next_order_id + 3 * number
            command = bracket(session, f"s{number}", first_order_id=first_id, entry_px="180.00", stop_px="170.00")
            posted_ns = time.time_ns()
            bench.driver.post(command)
            taken_us.append((bench.wait(SubmitWritten).written_ns - posted_ns) / 1000)
        rest = sorted(taken_us[1:])
        p50, p99 = statistics.median(rest), rest[int(0.99 * len(rest))]
        print(f"post → written, µs: p50 {p50:.0f}, p99 {p99:.0f}, first (resolves the contract) {taken_us[0]:.0f}")
        assert len(bench.of(SubmitNotSent)) == 0
