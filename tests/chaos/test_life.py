"""Starting, looking at, halting and ending a whole engine, as its user does."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.engine_process import EngineRun, runs

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineRun]:
    with EngineRun(tmp_path_factory.mktemp("life") / "run", "momentum.threshold_bps=1") as running:
        running.wait_serving()
        yield running


def test_status_names_every_process_with_its_pid_parent_state_restarts_incarnation_and_beat(engine: EngineRun) -> None:
    engine.wait(lambda: all(one.last_beat_age_s is not None for one in leaves(engine)), 90, "every leaf has beaten")
    shown = json.loads(engine.run("status", "--json").stdout)
    roles = {one["role"] for one in shown["processes"]}
    assert {"run.py", "admin", "root", "redis.ledger", "redis.bus", "exchange", "gateway", "execution"} <= roles
    for one in shown["processes"]:
        assert set(one) >= {"role", "pid", "parent", "state", "restarts", "incarnation", "last_beat_age_s"}
        assert Path(f"/proc/{one['pid']}").exists(), one
    assert shown["halt"] is None
    assert shown["dry_run"] is True


def leaves(engine: EngineRun) -> list[object]:
    return [one for one in engine.status().processes if one.parent not in ("", "run.py", "admin")]


def test_a_newcomer_sees_orders_fills_and_positions_within_a_minute(engine: EngineRun) -> None:
    engine.wait(lambda: "filled" in {order["state"] for order in engine.orders().values()}, 90, "a fill")
    orders = json.loads(engine.run("orders", "--json").stdout)
    assert {"entry", "take_profit", "stop_loss"} == {order["leg"] for order in orders}
    assert "symbol" in engine.run("positions").stdout


def test_trace_shows_an_order_back_to_its_signal_and_writes_it_for_a_viewer(engine: EngineRun, tmp_path: Path) -> None:
    engine.wait(lambda: engine.orders(), 90, "an order")
    order = next(iter(engine.orders()))
    shown = engine.run("trace", order, "--chrome", str(tmp_path / "trace.json"))
    assert shown.returncode == 0, shown.stderr
    for step in ("SignalReceived", "PlaceBracket", "SubmitWritten", "OrderReported"):
        assert step in shown.stdout, shown.stdout
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {event["ph"] for event in events} >= {"X", "M"}


def test_a_halt_refuses_new_risk_until_a_person_clears_it(engine: EngineRun, tmp_path: Path) -> None:
    assert engine.run("halt", "a test says so").returncode == 0
    try:
        engine.wait(lambda: engine.status().halt, 90, "the halt is shown")
        signal_file = tmp_path / "signal.json"
        signal_file.write_text(json.dumps(hand_signal("halted-1")))
        assert engine.run("signal", str(signal_file)).returncode == 0
        engine.wait(lambda: "halted-1" in engine.outcomes(), 90, "the signal's outcome")
        outcome = engine.outcomes()["halted-1"]
        assert outcome["outcome"] == "refused"
        assert "halt" in str(outcome["guard"])
        assert not [order for order in engine.orders().values() if order["signal_id"] == "halted-1"]
    finally:
        assert engine.run("resume").returncode == 0
    assert engine.status().halt is None


def hand_signal(signal_id: str) -> dict[str, object]:
    return {
        "signal_id": signal_id,
        "strategy": "by_hand",
        "symbol": "MSFT",
        "side": "BUY",
        "reference": "415",
        "take_profit": "900",
        "stop": "10",
        "ttl_s": 30,
    }


def test_a_signal_from_a_file_becomes_one_bracket(engine: EngineRun, tmp_path: Path) -> None:
    path = tmp_path / "signal.json"
    path.write_text(json.dumps(hand_signal("by-hand-1")))
    for _ in range(2):  # published twice, placed once
        assert engine.run("signal", str(path)).returncode == 0
    engine.wait(lambda: "by-hand-1" in engine.outcomes(), 90, "the signal's outcome")
    family = [order for order in engine.orders().values() if order["signal_id"] == "by-hand-1"]
    assert len(family) == (3 if engine.outcomes()["by-hand-1"]["outcome"] == "submitted" else 0)


def test_a_bad_signal_is_refused_with_field_value_and_remedy(engine: EngineRun, tmp_path: Path) -> None:
    path = tmp_path / "signal.json"
    path.write_text(json.dumps({**hand_signal("bad-1"), "side": "HOLD"}))
    refused = engine.run("signal", str(path))
    assert refused.returncode != 0
    assert "side" in refused.stderr
    assert "HOLD" in refused.stderr


def test_a_second_run_on_the_same_directory_is_refused_and_the_first_goes_on(engine: EngineRun) -> None:
    second = engine.run("run")
    assert second.returncode == 78
    assert str(engine.status().pid) in second.stderr
    assert "run.run_dir" in second.stderr
    assert engine.all_serve()


def test_a_hung_actor_is_killed_by_its_pid_and_replaced(tmp_path: Path) -> None:
    with EngineRun(tmp_path / "run", "supervision.heartbeat_s=0.5", "supervision.dead_after_s=8") as engine:
        engine.wait_serving()
        pid = engine.pids()["allocator"]
        os.kill(pid, signal.SIGSTOP)
        engine.wait(lambda: engine.pids()["allocator"] not in (0, pid), 90, "the hung allocator is replaced")
        engine.wait_serving()
        assert engine.pids()["allocator"] != pid


def test_every_listener_of_the_engine_is_on_the_loopback(engine: EngineRun) -> None:
    import psutil

    exposed = []
    for role, pid in engine.pids().items():
        for one in psutil.Process(pid).net_connections("inet"):
            if one.status == psutil.CONN_LISTEN and one.laddr.ip not in ("127.0.0.1", "::1"):
                exposed.append((role, one.laddr))
    assert not exposed


def test_no_process_may_write_a_core_that_would_hold_secrets(engine: EngineRun) -> None:
    for role, pid in engine.pids().items():
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        core = next(line for line in limits if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"], role


def test_ctrl_c_ends_everything_with_a_summary_and_the_next_start_goes_on(tmp_path: Path) -> None:
    engine = EngineRun(tmp_path / "run", "momentum.threshold_bps=1")
    engine.start()
    try:
        engine.wait_serving()
        engine.wait(lambda: engine.orders(), 90, "an order")
        before, pids = set(engine.orders()), engine.pids()
        assert engine.stop() == 0
        assert "Apex ran" in engine.output()
        left = {role: pid for role, pid in pids.items() if runs(pid)}
        assert not left, f"still there: {left}"
        engine.start()
        engine.wait_serving()
        assert before <= set(engine.orders())
    finally:
        engine.stop()


def test_systemd_is_told_when_the_tree_serves_and_fed_its_watchdog(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(90)
        with EngineRun(tmp_path / "run", environment={"NOTIFY_SOCKET": address}):
            told = [listener.recv(4096).decode()]
            while not any(text.startswith("WATCHDOG=1") for text in told):
                told.append(listener.recv(4096).decode())
        assert told[0].startswith("READY=1")


def test_a_hung_ledger_server_is_killed_and_the_tree_serves_again(tmp_path: Path) -> None:
    overrides = ("supervision.heartbeat_s=0.5", "supervision.dead_after_s=8", "momentum.threshold_bps=1")
    with EngineRun(tmp_path / "run", *overrides) as engine:
        engine.wait_serving()
        pid = engine.pids()["redis.ledger"]
        os.kill(pid, signal.SIGSTOP)
        engine.wait(lambda: not runs(pid), 90, "the hung server is killed")
        engine.wait_serving()
        assert engine.status().halt is None


def test_fresh_begins_anew_but_never_forgets_a_halt(tmp_path: Path) -> None:
    with EngineRun(tmp_path / "run") as engine:
        engine.wait_serving()
        assert engine.run("halt", "kept for a person").returncode == 0
    refused = engine.run("run", "--fresh")
    assert refused.returncode == 78
    assert "kept for a person" in refused.stderr
    assert "resume" in refused.stderr
    assert engine.run("resume").returncode == 0


def test_fresh_does_not_empty_a_folder_that_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("mine")
    refused = EngineRun(tmp_path / "run").run("run", "--fresh")
    assert refused.returncode == 78
    assert (tmp_path / "run" / "precious.txt").read_text() == "mine"
