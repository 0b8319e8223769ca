"""Scenes played with the real actor system, each in a process of its own: actors, commands, and the players.

A scene runs outside pytest because the admin and all actors are forked from whoever starts them: they would inherit
pytest's pipes and threads. `python -m tests.supervisors.stage SCENE FILE` writes what the scene returns to FILE.
"""

from __future__ import annotations

import ctypes
import errno
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from thespian.actors import ActorSystem, ChildActorExited

from supervisors import transport
from supervisors.crash_only import CrashOnlyActor
from supervisors.lifeline import ProcessIdentity, die_with_parent

KEY = b"k" * 32
ANSWER_S = 60.0


class Do(NamedTuple):
    """A command to an actor on the stage."""

    what: str
    argument: Any = None


class Player(CrashOnlyActor):
    """Does as told; a parent of further players."""

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.children: list[Any] = []
        self.exits: list[int] = []
        self.seen: list[Any] = []
        self.pipe = (-1, -1)

    def on_message(self, message: Any, sender: Any) -> None:
        if isinstance(message, Do):
            answer = getattr(self, message.what)(message.argument)
            if answer is not None:
                self.send(sender, answer)

    def on_child_exited(self, address: Any) -> None:
        self.exits += [number for number, child in enumerate(self.children) if child == address]

    def on_timer(self, payload: object) -> None:
        self.seen.append(payload)

    def pid(self, _: None) -> int:
        return os.getpid()

    def spawn(self, kind: str) -> int:
        self.children.append(self.createActor(globals()[kind]))
        process = self.child_process(self.children[-1])
        return process.pid if process is not None else 0

    def spawn_and_kill(self, _: None) -> int:
        pid = self.spawn("Player")
        os.kill(pid, signal.SIGKILL)
        return pid

    def spawn_without_a_process(self, _: None) -> int:
        class Full:
            def Process(self, **_: Any) -> None:  # noqa: N802  multiprocessing's name
                raise OSError(errno.EAGAIN, "no more processes")

        usual, self._myRef.mpcontext = self._myRef.mpcontext, Full()
        try:
            self.spawn("Player")
        finally:
            self._myRef.mpcontext = usual
        return 1

    def tell_child(self, order: tuple[int, Do]) -> int:
        self.send(self.children[order[0]], order[1])
        return 1

    def tell_child_often(self, order: tuple[int, int]) -> int:
        for _ in range(order[1]):
            self.send(self.children[order[0]], Do("note", "x"))
        return 1

    def pass_on(self, order: tuple[Any, Do]) -> int:
        self.send(order[0], order[1])
        return 1

    def rally(self, order: tuple[Any, str, int]) -> None:
        """Two messages to the other, now and then a large one, who answers in kind until none are left."""
        other, name, left = order
        if left:
            self.send(other, Do("note", (name, left, "x" * (100_000 if left % 10 == 0 else 1))))
            self.send(other, Do("rally", (self.myAddress, name, left - 1)))

    def notes_of(self, name: str) -> list[tuple[int, int]]:
        return [(left, len(text)) for noted, left, text in self.seen if noted == name]

    def child_address(self, number: int) -> tuple[Any]:
        return (self.children[number],)

    def pretend_exit(self, number: int) -> int:
        self.receiveMessage(ChildActorExited(self.children[number]), self.myAddress)
        return 1

    def exit_notices(self, _: None) -> list[int]:
        return list(self.exits)

    def what_was_seen(self, _: None) -> list[Any]:
        return list(self.seen)

    def note(self, what: Any) -> None:
        self.seen.append(what)

    def write_line(self, path: str) -> None:
        with open(path, "a") as file:
            file.write(f"{os.getpid()}\n")

    def write_line_and_raise(self, path: str) -> None:
        self.write_line(path)
        raise ValueError("on purpose")

    def write_line_and_exit(self, path: str) -> None:
        self.write_line(path)
        sys.exit(3)

    def fault(self, name: str) -> None:
        if name == "null pointer":
            ctypes.string_at(0)
        elif name == "abort":
            os.abort()
        else:
            os.kill(os.getpid(), getattr(signal, name))

    def hang(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)

    def tie_to(self, parent_pid: int) -> int:
        die_with_parent(parent_pid)
        return os.getpid()

    def watch_a_pipe(self, _: None) -> int:
        self.pipe = os.pipe()
        os.set_blocking(self.pipe[0], False)
        self.watch(self.pipe[0], self._read_the_pipe)
        return 1

    def _read_the_pipe(self) -> None:
        self.seen.append(os.read(self.pipe[0], 4096).decode())

    def unwatch_the_pipe(self, _: None) -> int:
        self.unwatch(self.pipe[0])
        return 1

    def write_to_the_pipe(self, text: str) -> None:
        os.write(self.pipe[1], text.encode())

    def set_timers(self, delays_s: list[float]) -> None:
        for delay_s in delays_s:
            self.after(delay_s, delay_s)

    def log_handlers(self, _: None) -> list[str]:
        logging.getLogger("anything").warning("a record of the standard library")
        return [type(handler).__name__ for handler in logging.getLogger().handlers]

    def titled(self, role: str) -> str:
        self.name_process(role)
        return Path(f"/proc/{os.getpid()}/cmdline").read_text().strip("\0")

    def packets_refused(self, _: None) -> int:
        serializer = transport.tcp_transport.serializer
        return int(serializer.refused())


class Stillborn(CrashOnlyActor):
    """Fails while it is made."""

    def __init__(self, *_: Any) -> None:
        super().__init__()
        raise ValueError("on purpose")


class Stage:
    """A started system with one player that is the parent of those of the scene."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.system: ActorSystem = transport.start_system(self.port, KEY)
        self.parent = self.system.createActor(Player)

    def ask(self, what: str, argument: Any = None) -> Any:
        answer = self.system.ask(self.parent, Do(what, argument), ANSWER_S)
        assert answer is not None, f"no answer to {what}"
        return answer

    def child(self, kind: str = "Player") -> int:
        return int(self.ask("spawn", kind))

    def tell_child(self, number: int, what: str, argument: Any = None) -> None:
        self.ask("tell_child", (number, Do(what, argument)))

    def ask_child(self, number: int, what: str, argument: Any = None) -> Any:
        (address,) = self.ask("child_address", number)
        answer = self.system.ask(address, Do(what, argument), ANSWER_S)
        assert answer is not None, f"no answer to {what}"
        return answer

    def until_exits(self, count: int) -> list[int]:
        """Wait until the parent has heard of so many ends."""
        return wait_for(lambda: (lambda got: got if len(got) >= count else None)(self.ask("exit_notices")))

    def all_exits(self) -> list[int]:
        """All notices so far, after one more child's: what was on its way before has then arrived."""
        number = len(set(self.ask("exit_notices")))
        self.child()
        self.ask_child(number, "pid")
        self.tell_child(number, "fault", "SIGKILL")
        return list(wait_for(lambda: (lambda got: got if number in got else None)(self.ask("exit_notices"))))

    def session(self) -> list[ProcessIdentity]:
        """Every process of the system: admin, logger, actors."""
        session = os.getsid(self.ask("pid"))
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    if os.getsid(int(name)) == session:
                        found.append(ProcessIdentity.of(int(name)))
                except ProcessLookupError:
                    continue
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], bound_s: float = ANSWER_S) -> Any:
    deadline = time.monotonic() + bound_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "not within the bound"
        time.sleep(0.005)
    return value


def main() -> None:
    from tests.supervisors import scenes

    name, file = sys.argv[1], Path(sys.argv[2])
    result = getattr(scenes, name)(Stage(file.parent))
    temporary = file.with_suffix(".part")
    temporary.write_text(json.dumps(result))
    temporary.replace(file)


if __name__ == "__main__":
    from tests.supervisors import stage

    stage.main()
