"""Sessions of the IB driver and its readings of the venue: how they begin, what they find, how they end."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.adapters.assembly import BeatReturned
from actors.adapters.ib_driver import CANNOT_CONNECT_CODE
from actors.messages import (
    ExecutionReported,
    SessionLost,
    SessionOpened,
    SubmitNotSent,
    SubmitOrders,
    SubmitWritten,
    VenueErrorReported,
)
from kernels.fixed8 import SCALE
from tests.actors.ib_bench import Bench, Proxy, bracket, px, read, statuses
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


def test_an_account_that_the_gateway_has_not_is_refused_with_both_names(gateway: GatewayProcess, proxy: Proxy) -> None:
    with Bench(gateway.port, account="DU9") as bench:
        told = bench.wait(VenueErrorReported, lambda error: error.code == CANNOT_CONNECT_CODE)
        assert "DU9" in told.text
        assert "DU1234567" in told.text
    proxy.rewrite = lambda fields: [*fields[:2], "DU1234567,DU2"] if fields[0] == "15" else fields
    with Bench(proxy.port) as bench:
        assert "2 accounts" in bench.wait(VenueErrorReported, lambda error: error.code == CANNOT_CONNECT_CODE).text


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


def test_it_serves_in_a_forked_child_of_a_process_that_imported_it(gateway: GatewayProcess) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with Bench(gateway.port, client_id=55) as bench:
            os.write(writer, str(bench.opened().client_id).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert answer.read() == "55"
    assert os.waitpid(pid, 0)[1] == 0


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


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_befalls_the_gateway_nothing_told_unsent_is_there_and_no_submission_has_two_outcomes(
    tmp_path: Path, seed: int
) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    posted: dict[str, SubmitOrders] = {}
    with (
        GatewayProcess(tmp_path, "--messages-per-s", "0") as gateway,
        Bench(gateway.port, messages_per_s_max=100_000, backoff_s_max=0.2) as bench,
    ):
        for turn in range(12):
            session = bench.wait(SessionOpened)
            blow = chance.choice(["drop", "kill", "die", "before"])
            if blow in ("die", "before"):
                when = "after" if blow == "die" else "before"
                gateway.fault("die_at_place", nth=chance.randint(1, 24), when=when)
            for number in range(8):
                name = f"s{turn}.{number}"
                first_id = session.next_order_id + 3 * number
                command = bracket(session, name, first_order_id=first_id, entry_px="180.00", stop_px="170.00")
                posted[command.intent_id] = command
                bench.driver.post(command)
                if number == 4 and blow == "drop":
                    gateway.fault("drop")
                elif number == 4 and blow == "kill":
                    gateway.kill9()
            bench.wait(SessionLost)
            if blow != "drop":
                gateway.wait_dead()
                gateway.restart()
        session = bench.wait(SessionOpened)
        answer = read(bench, session)
        assert answer.failed == ()
        outcomes = Counter(
            event.intent_id for event in bench.events if isinstance(event, SubmitWritten | SubmitNotSent)
        )
        assert max(outcomes.values()) == 1
        unsent = {name for event in bench.of(SubmitNotSent) for name in event.client_order_ids}
        there = {row["order_ref"] for row in gateway.orders()}
        assert there
        assert not unsent & there
        told = Counter(order.client_order_id for order in (*answer.open_orders, *answer.completed_orders))
        assert set(told) == there
        assert max(told.values()) == 1
        # What has no outcome was written in part or whole, in a session that was told to be lost.
        lost = {event.session_id for event in bench.of(SessionLost)}
        assert {posted[intent_id].session_id for intent_id in posted.keys() - outcomes.keys()} <= lost
