"""A paper exchange as a real process, for any test that needs one: started, killed, started again on its own state."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
READY_S_MAX = 60.0
STOP_S_MAX = 30.0


class ExchangeProcess:
    """`python -m venues.exchange` on a free loopback port, with a state folder of its own.

    Use it as a context manager, or call `start` and `stop`. The port stays the same from one `start` to the next.

        with ExchangeProcess(tmp_path / "exchange", "--rate", "500") as exchange:
            exchange.get("/api/v3/exchangeInfo")
    """

    def __init__(self, state: Path, *options: str, port: int = 0) -> None:
        self.state = state
        self.options = options
        self.port = port
        self.process: subprocess.Popen[str] | None = None

    @property
    def base_url(self) -> str:
        """Where REST is: http://127.0.0.1:PORT."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where WebSocket is: ws://127.0.0.1:PORT; append /ws/… or /stream?streams=…"""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the run in progress."""
        assert self.process is not None, "not started"
        return self.process.pid

    def start(self) -> ExchangeProcess:
        """Start and wait until it serves. Raises AssertionError, with what it printed, where it does not."""
        assert self.process is None or self.process.poll() is not None, "already running"
        # It is removed at a clean end; after kill -9 the old one would be taken for the new.
        (self.state / "exchange.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "venues.exchange", "--port", str(self.port), "--state", str(self.state)]
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "output.log").open("a") as output:
            self.process = subprocess.Popen(
                [*command, *self.options], cwd=ROOT, text=True, stdout=output, stderr=subprocess.STDOUT
            )
        wait_until(lambda: self._is_ready(), READY_S_MAX, lambda: f"exchange did not come up: {self.output()}")
        self.port = int(json.loads((self.state / "exchange.json").read_bytes())["port"])
        return self

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code; kill it where it does not end."""
        assert self.process is not None, "not started"
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"exchange did not end within {STOP_S_MAX} s of SIGTERM") from None

    def kill9(self) -> None:
        """Kill it and wait until it is gone."""
        assert self.process is not None, "not started"
        self.process.kill()
        self.process.wait(STOP_S_MAX)

    def restart(self) -> ExchangeProcess:
        """Kill it where it runs, and start it again on the same port and state."""
        if self.process is not None and self.process.poll() is None:
            self.kill9()
        return self.start()

    def output(self) -> str:
        """Return everything that it printed, over all its runs."""
        path = self.state / "output.log"
        return path.read_text() if path.exists() else ""

    def request(self, path: str, body: object = None) -> tuple[int, dict[str, str], Any]:
        """GET, or POST a JSON body where one is given; return status, headers and the decoded reply."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base_url + path, data=data)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, dict(reply.headers), json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), json.loads(error.read() or b"null")

    def get(self, path: str) -> Any:
        """GET a path and return the decoded reply. Raises AssertionError on any status but 200."""
        status, _, reply = self.request(path)
        assert status == 200, f"GET {path}: {status} {reply}"
        return reply

    def fault(self, name: str, **fields: object) -> int:
        """Ask for a fault of the table; return how many frames, connections or requests it touches."""
        status, _, reply = self.request("/paper/fault", {"fault": name, **fields})
        assert status == 200, f"fault {name}: {status} {reply}"
        return int(reply["touched"])

    def ledger(self) -> list[dict[str, Any]]:
        """Return the opportunity ledger: the last line of each id, by id."""
        path = self.state / "opportunities.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return list({(record := json.loads(line))["id"]: record for line in lines}.values())

    def __enter__(self) -> ExchangeProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.stop()

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"exchange ended with {self.process.returncode}: {self.output()}"
        return (self.state / "exchange.json").exists()


def wait_until(condition: Callable[[], bool], seconds_max: float, say: Callable[[], str]) -> None:
    """Wait for a condition; raise AssertionError with `say()` where it does not come in time."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(say())
        time.sleep(0.01)
