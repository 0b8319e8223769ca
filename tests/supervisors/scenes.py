"""The scenes. Each gets a stage and returns what it saw, as JSON; the tests judge it."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import time
from pathlib import Path
from typing import Any

import psutil

from supervisors import transport
from supervisors.lifeline import ProcessIdentity
from tests.supervisors.stage import Do, Player, Stage, wait_for


def handler_raises(stage: Stage) -> Any:
    stage.child()
    stage.child()
    for number, order in enumerate(("write_line_and_raise", "write_line_and_exit")):
        stage.tell_child(number, order, str(stage.folder / f"effect{number}"))
    return {"exits": sorted(stage.until_exits(2))}


def faults(stage: Stage) -> Any:
    kinds = ["null pointer", "abort", "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGKILL", "SIGTERM"]
    pids = [stage.child() for _ in kinds]
    identities = [ProcessIdentity.of(pid) for pid in pids]
    for number, kind in enumerate(kinds):
        stage.tell_child(number, "fault", kind)
    stage.until_exits(len(kinds))
    return {"kinds": kinds, "exits": sorted(stage.all_exits()), "alive": [one.is_alive() for one in identities]}


def terminated_idle_and_busy(stage: Stage) -> Any:
    pids = [stage.child(), stage.child()]
    assert [stage.ask_child(number, "pid") for number in (0, 1)] == pids
    stage.tell_child(1, "hang", 600.0)
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    stage.until_exits(2)
    return {"exits": sorted(stage.all_exits())}


def stillborn(stage: Stage) -> Any:
    stage.child("Stillborn")
    return {"exits": stage.until_exits(1)}


def stopped_child_killed(stage: Stage) -> Any:
    pid = stage.child()
    stage.ask_child(0, "pid")
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    return {"exits": stage.until_exits(1)}


def never_there(stage: Stage) -> Any:
    stage.ask("spawn_and_kill")
    stage.ask("spawn_without_a_process")
    return {"exits": sorted(stage.until_exits(2))}


def notice_of_another(stage: Stage) -> Any:
    pid = stage.child()
    stage.ask_child(0, "pid")
    stage.ask("pretend_exit", 0)
    before = stage.ask("exit_notices")
    os.kill(pid, signal.SIGKILL)
    return {"before": before, "after": stage.until_exits(1)}


def supervisor_killed(stage: Stage) -> Any:
    supervisor = stage.child()
    (address,) = stage.ask("child_address", 0)
    grandchildren = []
    for number in range(3):
        assert stage.system.ask(address, Do("spawn", "Player"), 20)
        (grandchild,) = stage.system.ask(address, Do("child_address", number), 20)
        tied = stage.system.ask(grandchild, Do("tie_to", supervisor), 20)
        grandchildren.append(ProcessIdentity.of(tied))
    os.kill(supervisor, signal.SIGKILL)
    stage.until_exits(1)
    wait_for(lambda: not any(one.is_alive() for one in grandchildren))
    return {"gone": len(grandchildren)}


def watches(stage: Stage) -> Any:
    stage.child()
    stage.ask_child(0, "watch_a_pipe")
    seen = []
    for text in ("a", "b", "c"):
        stage.tell_child(0, "note", f"a message before {text}")
        stage.tell_child(0, "set_timers", [0.0])
        stage.tell_child(0, "write_to_the_pipe", text)
        wait_for(lambda text=text: text in stage.ask_child(0, "what_was_seen"))
        seen.append(text)
    stage.ask_child(0, "unwatch_the_pipe")
    stage.tell_child(0, "write_to_the_pipe", "d")
    stage.ask_child(0, "pid")
    return {"seen": seen, "after_unwatch": "d" in stage.ask_child(0, "what_was_seen")}


def timers(stage: Stage) -> Any:
    stage.child()
    stage.tell_child(0, "set_timers", [0.05, 0.02, 0.02001, 0.02002, 0.0, 0.04])
    # Busy while most come due: they are then handed out together.
    stage.tell_child(0, "hang", 0.045)
    return {"seen": wait_for(lambda: (lambda got: got if len(got) == 6 else None)(stage.ask_child(0, "what_was_seen")))}


def process_facts(stage: Stage) -> Any:
    told = stage.child()
    (address,) = stage.ask("child_address", 0)
    stage.ask("spawn", "Player")
    (other,) = stage.ask("child_address", 1)
    # An address in a message works for its receiver.
    assert stage.system.ask(other, Do("pass_on", (address, Do("note", "by way of the other"))), 20)
    return {
        "told": told,
        "own": stage.ask_child(0, "pid"),
        "handlers": stage.ask_child(0, "log_handlers"),
        "title": stage.ask_child(0, "titled", "feed.spot.0"),
        "passed": wait_for(lambda: stage.ask_child(0, "what_was_seen")),
    }


def hung_peer(stage: Stage) -> Any:
    hung, healthy = stage.child(), stage.child()
    assert (stage.ask_child(0, "pid"), stage.ask_child(1, "pid")) == (hung, healthy)
    os.kill(hung, signal.SIGSTOP)
    stage.ask("tell_child_often", (0, 50))
    stage.tell_child(1, "note", "heard all the same")
    heard = wait_for(lambda: stage.ask_child(1, "what_was_seen"))
    os.kill(hung, signal.SIGCONT)
    got = wait_for(lambda: (lambda got: got if len(got) == 50 else None)(stage.ask_child(0, "what_was_seen")))
    return {"heard": heard, "delivered_after_all": len(got)}


def crossing(stage: Stage) -> Any:
    """Two rallies between two players, begun from both ends: messages and acknowledgements cross on one connection."""
    addresses = []
    for number in (0, 1):
        stage.child()
        addresses.append(stage.ask("child_address", number)[0])
    for number, name in ((0, "a"), (1, "b")):
        stage.tell_child(number, "rally", (addresses[1 - number], name, 100))
    of = {"a": [], "b": []}
    for name, found in of.items():
        wait_for(lambda name=name: sum(len(stage.ask_child(n, "notes_of", name)) for n in (0, 1)) >= 100, 60.0)
        found += [stage.ask_child(number, "notes_of", name) for number in (0, 1)]
    return of


def listeners(stage: Stage) -> Any:
    stage.child()
    stage.ask_child(0, "pid")
    pids = [one.pid for one in stage.session()]
    found = []
    for pid in [*pids, os.getpid()]:
        for one in psutil.Process(pid).net_connections("inet"):
            if one.status == psutil.CONN_LISTEN:
                found.append(one.laddr.ip)
    return {"processes": len(pids), "addresses": found}


class Payload:
    """Runs code when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def hostile_packets(stage: Stage) -> Any:
    child = stage.child()
    stage.ask_child(0, "pid")
    executed = stage.folder / "executed"
    evil = pickle.dumps((1, Payload(executed)))
    other_key = transport.SignedSerializer(b"x" * 32).dumps((1, Payload(executed)))
    ours = transport.SignedSerializer(b"k" * 32).dumps("signed, then changed")
    packets = [
        b"%d>" % len(evil) + evil,
        b"%d>" % len(other_key) + other_key,
        b"%d>" % len(ours) + ours[:-1] + b"?",
        b"3>abc",
        b"0>",
        b"-5>abcdefgh",
        b"99999999999>abc",
        b">abc",
        b"x" * 1000,
        b"12",
        b"",
    ]
    (address,) = stage.ask("child_address", 0)
    ports = [stage.port, address.addressDetails.sockname[1]]
    for port in ports:
        for packet in packets:
            with socket.create_connection(("127.0.0.1", port), 30) as connection:
                connection.sendall(packet)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(30)
                while connection.recv(4096):
                    pass
    refused = stage.ask_child(0, "packets_refused")
    # Alive: the admin creates another actor, and the child still answers.
    assert stage.system.createActor(Player) is not None
    return {
        "executed": executed.exists(),
        "ports": len(ports),
        "refused": refused,
        "child": stage.ask_child(0, "pid") == child,
    }


def foreign_admin(stage: Stage) -> Any:
    """A second start on the port of a living system, then one that takes it for its own but has another key."""
    began = time.monotonic()
    try:
        transport.start_system(stage.port, b"y" * 32)
        said = ""
    except transport.PortTaken as error:
        said = str(error)
    took_s = time.monotonic() - began
    transport.harden(b"y" * 32)
    joined = stage.system.ask(stage.parent, Do("pid"), 1.0)
    transport.harden(b"k" * 32)
    return {"said": said, "took_s": took_s, "port": stage.port, "joined": joined}
