"""A paper gateway in a process of its own, for the tests of anyone who talks to one.

with GatewayProcess(tmp_path) as gateway:
    gateway.control({"cmd": "set_price", "symbol": "SPY", "bid": "500.00", "ask": "500.02"})
    ib.connect("127.0.0.1", gateway.port, clientId=7)
    gateway.kill9()
    gateway.restart()          # same ports, same state
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.library_errors import script

ROOT = Path(__file__).resolve().parents[2]
START_S_MAX = 60.0
REPLY_S_MAX = 60.0


class GatewayProcess:
    """One gateway with a state folder of its own. By default its prices move only when a test moves them.

    It cannot outlive the tests: it ends when this process does.
    """

    def __init__(self, folder: Path, *options: str, walk: bool = False, python: str = sys.executable) -> None:
        self.state = folder / "gateway"
        self.port = 0
        self.control_port = 0
        self.process: subprocess.Popen[str] | None = None
        self._options = [*options, *([] if walk else ["--no-walk"])]
        self._python = python
        self._control: socket.socket | None = None
        self._lifeline: int | None = None
        self._log = folder / "gateway.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def start(self) -> GatewayProcess:
        """Start it on free ports, or on those it had before; return once it serves."""
        ready, told = os.pipe()
        held, self._lifeline = os.pipe()
        command = [self._python, "-m", "venues.gateway", "--state", str(self.state)]
        command += ["--ready-fd", str(told), "--lifeline-fd", str(held)]
        command += ["--port", str(self.port), "--control", str(self.control_port), *self._options]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, pass_fds=[told, held], start_new_session=True, text=True
            )
        os.close(told)
        os.close(held)
        with os.fdopen(ready, "rb") as pipe:
            line = pipe.readline()
        assert line, f"the gateway did not start (exit {self.process.wait()}):\n{self.log}"
        report = json.loads(line)
        self.port, self.control_port = report["port"], report["control_port"]
        return self

    def kill9(self) -> None:
        """Kill it as a crash does, and wait until it is gone."""
        script("killed")
        self._signal(signal.SIGKILL)

    def stop(self) -> int:
        """End it by SIGTERM; return its exit code."""
        script("killed")
        return self._signal(signal.SIGTERM)

    def restart(self) -> GatewayProcess:
        """Start it again on the same ports and state."""
        assert self.process is None or self.process.poll() is not None, "it still runs"
        return self.start()

    def wait_dead(self) -> int:
        """Wait until it has ended by itself (a fault that kills it); return its exit code."""
        assert self.process is not None
        code = self.process.wait(START_S_MAX)
        self._release()
        return code

    def control(self, command: dict[str, Any], *, ok: bool = True) -> dict[str, Any]:
        """Send one command to the control port and return its reply; by default a refusal fails the test."""
        script(str(command.get("kind", command["cmd"])))
        if self._control is None:
            self._control = socket.create_connection(("127.0.0.1", self.control_port), REPLY_S_MAX)
        self._control.sendall(json.dumps(command).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            chunk = self._control.recv(1 << 16)
            assert chunk, f"the gateway closed the control connection:\n{self.log}"
            data += chunk
        reply: dict[str, Any] = json.loads(data)
        assert not ok or reply["ok"], f"{command} → {reply}"
        return reply

    def set_price(self, symbol: str, bid: str, ask: str, last: str | None = None) -> None:
        extra = {} if last is None else {"last": last}
        self.control({"cmd": "set_price", "symbol": symbol, "bid": bid, "ask": ask, **extra})

    def fault(self, kind: str, **fields: Any) -> dict[str, Any]:
        return self.control({"cmd": "fault", "kind": kind, **fields})

    def orders(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.control({"cmd": "list_orders"})["orders"]
        return rows

    def executions(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.control({"cmd": "list_executions"})["executions"]
        return rows

    def positions(self) -> dict[str, dict[str, Any]]:
        rows = self.control({"cmd": "list_positions"})["positions"]
        return {row["symbol"]: row for row in rows}

    def account(self) -> dict[str, Any]:
        return self.control({"cmd": "account"})

    def status(self) -> dict[str, Any]:
        return self.control({"cmd": "status"})

    def wait_for(self, what: str, condition: Any, within_s: float = 60.0) -> Any:
        """Ask `condition(self)` until it is true; fail, saying `what`, after the bound."""
        deadline = time.monotonic() + within_s
        while not (value := condition(self)):
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}\n{self.log}"
            time.sleep(0.01)
        return value

    def _signal(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(START_S_MAX)
        self._release()
        return code

    def _release(self) -> None:
        """Close what belongs to the run that ended."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def __enter__(self) -> GatewayProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self._signal(signal.SIGKILL)
