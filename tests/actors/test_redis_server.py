"""Servers of our own: started, killed, left over, pinned, and refused where their settings lose what is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]
import pytest

from actors.adapters import redis_binary
from actors.adapters.redis_binary import PIN_NAME, Binary, BinaryRefused, find_binary, pinned_binary
from actors.adapters.redis_client import PASSWORD_VARIABLE, redacted
from actors.adapters.redis_server import (
    EmbeddedRedis,
    Purpose,
    ServerFailed,
    ServerKind,
    SettingsRefused,
    check_settings,
    connect,
    probe,
    socket_path,
)
from tests.actors.redis_fixture import RedisPair
from tests.conftest import ROOT

MakeServer = Callable[..., EmbeddedRedis]


@pytest.fixture
def server_in(tmp_path: Path) -> Iterator[MakeServer]:
    made: list[EmbeddedRedis] = []

    def make(kind: ServerKind = ServerKind.LEDGER, directory: Path = tmp_path / "run") -> EmbeddedRedis:
        server = EmbeddedRedis(kind, directory)
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()


def wait_until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def put(server: EmbeddedRedis, name: str, value: str) -> None:
    with connect(server.url, Purpose.TOOL) as client:
        client.set(name, value)


def got(server: EmbeddedRedis, name: str) -> object:
    with connect(server.url, Purpose.TOOL) as client:
        return client.get(name)


@pytest.mark.parametrize("kind", list(ServerKind))
def test_an_embedded_server_satisfies_its_own_kind(server_in: MakeServer, kind: ServerKind) -> None:
    server = server_in(kind)
    assert not probe(server.url)
    server.start()
    assert probe(server.url)
    with connect(server.url, Purpose.TOOL) as client:
        assert check_settings(client, kind) == ()
        assert client.info("server")["tcp_port"] == 0
    assert server.socket.stat().st_mode & 0o077 == 0


def test_what_was_written_is_there_after_a_stop_and_after_kill_9(server_in: MakeServer) -> None:
    server = server_in()
    server.start()
    put(server, "a", "1")
    server.stop()
    assert (server.alive(), probe(server.url), server.socket.exists()) == (False, False, False)
    server.start()
    put(server, "b", "2")
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not server.alive())
    server.start()
    assert (got(server, "a"), got(server, "b")) == (b"1", b"2")


def test_a_torn_end_of_the_file_costs_only_what_was_torn(server_in: MakeServer) -> None:
    server = server_in()
    server.start()
    put(server, "whole", "1")
    server.stop()
    journal = next(
        path for path in server.data.rglob("appendonly.aof*") if path.is_file() and "manifest" not in path.name
    )
    with open(journal, "ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nto")
    server.start()
    assert (got(server, "whole"), got(server, "to")) == (b"1", None)


def test_a_file_damaged_in_the_middle_is_refused_with_the_servers_own_words(server_in: MakeServer) -> None:
    server = server_in()
    server.start()
    for n in range(50):
        put(server, f"key{n}", "x" * 50)
    server.stop()
    journal = max(
        (path for path in server.data.rglob("appendonly.aof*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    damaged = bytearray(journal.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 20] = b"\xff" * 20
    journal.write_bytes(damaged)
    with pytest.raises(ServerFailed, match=r"ended at its start.*Remedy"):
        server.start()


def test_a_server_left_over_by_a_dead_run_is_ended_before_a_new_one_opens_its_file(server_in: MakeServer) -> None:
    old = server_in()
    old.start()
    put(old, "a", "1")
    new = server_in()
    new.start()
    assert new.pid != old.pid
    wait_until(lambda: not old.alive())
    assert got(new, "a") == b"1"


def test_a_leftover_that_is_stopped_and_was_never_recorded_is_found_by_its_socket(server_in: MakeServer) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux says who listens on a socket")
    old = server_in()
    old.start()
    (old.data / "process.json").unlink()
    os.kill(old.pid, signal.SIGSTOP)
    assert not probe(old.url)
    new = server_in()
    assert new.stop_leftover(timeout_s=0.2) == old.pid
    wait_until(lambda: not old.alive())
    new.start()
    assert probe(new.url)


def test_a_process_that_merely_has_the_recorded_pid_is_not_touched(server_in: MakeServer) -> None:
    server = server_in()
    server.start()
    server.stop()
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd=server.data)
    try:
        for created_s in (1.0, psutil.Process(bystander.pid).create_time()):
            record = msgspec.json.encode({"pid": bystander.pid, "created_s": created_s})
            (server.data / "process.json").write_bytes(record)
            assert server.stop_leftover() == 0
        assert bystander.poll() is None
    finally:
        bystander.communicate(b"\n", timeout=60)


def test_ctrl_c_in_the_terminal_does_not_reach_a_server(tmp_path: Path) -> None:
    """A parent in a session of its own starts one; the signal goes to the parent's whole group."""
    program = (
        "import sys, time\n"
        "from actors.adapters.redis_server import EmbeddedRedis\n"
        "server = EmbeddedRedis('ledger', sys.argv[1]); server.start()\n"
        "try:\n"
        "    print(server.pid, flush=True)\n"
        "    while True: time.sleep(0.05)\n"
        "except KeyboardInterrupt: sys.exit(5)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "run")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(30) == 5
    parent.stdout.close()
    server = EmbeddedRedis("ledger", tmp_path / "run")
    assert probe(server.url)
    assert server.stop_leftover() == pid
    assert not probe(server.url)


def test_a_run_directory_with_a_long_path_gets_a_short_socket_of_its_own(server_in: MakeServer, tmp_path: Path) -> None:
    long = tmp_path / ("d" * 60) / ("e" * 60)
    server = server_in(directory=long)
    assert len(os.fsencode(server.socket)) <= 100
    assert server.socket == socket_path("ledger", long) != socket_path("ledger", long / "other")
    server.start()
    put(server, "a", "1")
    assert (server.data / "redis.conf").is_relative_to(long)
    server.stop()
    assert not server.socket.parent.exists()
    server.start()
    assert got(server, "a") == b"1"


def test_a_short_socket_directory_that_others_may_write_is_refused(
    server_in: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    server = server_in(directory=tmp_path / ("d" * 120))
    server.socket.parent.mkdir()
    (server.socket.parent / "somebody").touch()
    server.socket.parent.chmod(0o777)
    with pytest.raises(ServerFailed, match="Remedy"):
        server.start()


def test_a_run_directory_keeps_to_the_binary_that_wrote_it(
    server_in: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = server_in()
    server.start()
    server.stop()
    pin = msgspec.json.decode((server.directory / PIN_NAME).read_bytes(), type=Binary)
    assert pin == find_binary()
    gone = str(tmp_path / "gone")
    other = Binary(gone, "7.0.15", "0" * 64)
    (server.directory / PIN_NAME).write_bytes(msgspec.json.encode(other))
    with pytest.raises(BinaryRefused, match=r"written by Redis 7\.0\.15.*Remedy"):
        server.start()
    series = ".".join(str(part) for part in pin.series)
    (server.directory / PIN_NAME).write_bytes(msgspec.json.encode(Binary(gone, f"{series}.0", "0" * 64)))
    assert pinned_binary(server.directory) == pin  # the same series, mended
    (server.directory / PIN_NAME).write_bytes(msgspec.json.encode(Binary(gone, "1.0.0", pin.sha256)))
    assert pinned_binary(server.directory) == pin  # the same file in another place
    (server.directory / PIN_NAME).write_bytes(b"{")
    with pytest.raises(BinaryRefused, match="damaged"):
        server.start()
    monkeypatch.setattr(redis_binary, "find_binary", lambda: other)
    (server.directory / PIN_NAME).write_bytes(msgspec.json.encode(pin))
    assert pinned_binary(server.directory) == pin  # another one on PATH changes nothing while the pinned one is there


def test_files_of_redis_7_are_not_opened_by_an_older_one(server_in: MakeServer) -> None:
    if find_binary().series >= (7, 0):
        pytest.skip("this machine's server is no older one")
    server = server_in()
    (server.data / "appendonlydir").mkdir(parents=True)
    with pytest.raises(BinaryRefused, match="as empty"):
        server.start()


def test_no_server_to_run_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_binary, "_bundled", lambda: "")
    with pytest.raises(BinaryRefused, match="Remedy: install redis-server"):
        find_binary()


def test_an_overgrown_log_is_put_aside_while_the_server_runs(
    server_in: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.adapters.redis_server.LOG_BYTES_MAX", 10)
    server = server_in()
    server.start()
    server.bound_log()
    assert (server.data / "redis.log.1").exists()
    server.stop()
    assert (server.data / "redis.log").exists()


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (ServerKind.LEDGER, "appendonly", "no"),
        (ServerKind.LEDGER, "appendfsync", "everysec"),
        (ServerKind.LEDGER, "no-appendfsync-on-rewrite", "yes"),
        (ServerKind.BUS, "appendonly", "no"),
        (ServerKind.BUS, "appendfsync", "no"),
    ],
)
def test_a_less_durable_server_is_refused_by_name_unless_accepted(
    server_in: MakeServer, kind: ServerKind, name: str, value: str
) -> None:
    server = server_in(kind)
    server.start()
    with connect(server.url, Purpose.TOOL) as client:
        client.config_set(name, value)
        with pytest.raises(SettingsRefused, match=rf"{name} is '{value}'\. Remedy: CONFIG SET {name}"):
            check_settings(client, kind)
        assert check_settings(client, kind, accept_less=True) == (f"{kind} server has {name} '{value}'",)


def test_a_server_that_evicts_is_never_accepted(server_in: MakeServer) -> None:
    server = server_in(ServerKind.BUS)
    server.start()
    with connect(server.url, Purpose.TOOL) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(SettingsRefused, match="evict"):
            check_settings(client, ServerKind.BUS, accept_less=True)


def test_a_server_that_forbids_config_is_refused_unless_accepted(server_in: MakeServer) -> None:
    server = server_in()
    server.start()
    with connect(server.url, Purpose.TOOL) as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
        with pytest.raises(SettingsRefused, match=r"does not let its settings be read.*\+config\|get"):
            check_settings(client, ServerKind.LEDGER)
        assert len(check_settings(client, ServerKind.LEDGER, accept_less=True)) == 1


def test_a_password_comes_from_a_file_or_the_environment_and_is_not_shown(
    server_in: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = server_in()
    server.start()
    with connect(server.socket, Purpose.TOOL) as client:
        client.config_set("requirepass", "s3cret")
    assert not probe(server.socket)
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    assert probe(server.socket, password_file=secret)
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    assert probe(server.socket)
    with connect(server.socket, Purpose.TOOL) as client:
        client.config_set("requirepass", "")
    assert redacted("redis://user:s3cret@localhost:6379/0") == "redis://user:***@localhost:6379/0"
    assert redacted("unix://:@/run/x.sock") == "unix://:@/run/x.sock"
    assert redacted("unix:///run/x.sock") == "unix:///run/x.sock"


def test_a_password_that_is_meant_for_another_server_does_not_shut_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a run directory whose name means something in a URL."""
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    server = EmbeddedRedis(ServerKind.BUS, tmp_path / "100% a#b?c")
    server.start()
    try:
        assert probe(server.url)
        assert probe(server.url, password_file=tmp_path / "none")
    finally:
        server.stop()


def test_a_password_file_that_cannot_be_read_is_refused_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match=r"ledger\.password_file is .*none.*Remedy"):
        connect("redis://localhost:1", Purpose.TOOL, password_file=tmp_path / "none")


def test_a_url_of_another_scheme_is_refused_without_its_password() -> None:
    with pytest.raises(ValueError, match="must be") as refused:
        connect("http://user:s3cret@localhost", Purpose.TOOL)
    assert "s3cret" not in str(refused.value)


def test_a_probe_of_a_stopped_server_returns_in_time(embedded_redis: RedisPair) -> None:
    os.kill(embedded_redis.bus.pid, signal.SIGSTOP)
    try:
        assert not probe(embedded_redis.bus.url)
    finally:
        os.kill(embedded_redis.bus.pid, signal.SIGCONT)
    wait_until(lambda: probe(embedded_redis.bus.url))
