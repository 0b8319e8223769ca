"""A whole engine as a process of its own, for tests that kill parts of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from actors.adapters.inspection import EngineAway
from actors.keys import KeyType
from config.schema import Settings, load
from supervisors.run_files import NotRunning
from supervisors.status import EngineStatus, read_projection, read_status
from tests.library_errors import in_log, unexplained

ROOT = Path(__file__).resolve().parents[2]
FIXED = 10**8


class EngineRun:
    """`run.py run` on a directory of its own. Use in a `with`: at the end everything it started is gone."""

    def __init__(self, run_dir: Path, *overrides: str, environment: dict[str, str] | None = None) -> None:
        self.run_dir = run_dir
        self.overrides = [f"run.run_dir={run_dir}", *overrides]
        self.settings: Settings = load(None, self.overrides)
        self.log = run_dir.with_suffix(".log")
        self.environment = environment or {}
        self.process: subprocess.Popen[bytes] | None = None
        self.scripted: set[str] = {"replaced"}
        """What befell the gateway and its clients by this test's doing; see `tests/library_errors.py`."""

    def __enter__(self) -> EngineRun:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """A failure that is under way is the one to be told, whatever the end of the engine comes to."""
        # Before it stops: an end has an order of its own, in which a client may outlive its gateway.
        errors = self.library_errors() if kind is None else []
        try:
            self.stop()
        except AssertionError as late:
            if error is None:
                raise
            error.add_note(f"and at the end: {late}")
        assert not errors, f"the client library logged errors that no scripted fault explains: {errors}"

    def command(self, name: str, *arguments: str) -> list[str]:
        sets = [part for override in self.overrides for part in ("--set", override)]
        return [sys.executable, str(ROOT / "run.py"), name, *sets, *arguments]

    def start(self) -> None:
        """Start it; a second time after an end in any order, which explains what the first one logged of it."""
        if self.log.exists():
            self.strikes("run.py")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("run", "--no-view"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                cwd=self.run_dir.parent,
            )

    def library_errors(self) -> list[str]:
        """ERROR records of the client library in any process's log that nothing scripted explains."""
        if self.process is None or self.process.poll() is not None:
            self.strikes("run.py")
        logs = sorted((self.run_dir / "logs").glob("*.log"))
        records = [f"{log.stem}: {text}" for log in logs for text in in_log(log.read_text(errors="replace"))]
        found = set(unexplained([text.partition(": ")[2] for text in records], self.scripted))
        return [text for text in records if text.partition(": ")[2] in found]

    def stop(self) -> int:
        """Ctrl-C; the exit code. Kills it, and leaves the rest to the next start, if it does not end in 30 s."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"run.py did not end within 30 s of Ctrl-C:\n{self.output()}") from None
        code, self.process = self.process.returncode, None
        return code

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(name, *arguments), capture_output=True, text=True, timeout=120, check=False)

    def output(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    # ---- looking

    def status(self) -> EngineStatus:
        return read_status(self.settings)

    def pids(self) -> dict[str, int]:
        return {one.role: one.pid for one in self.status().processes}

    def orders(self) -> dict[str, dict[str, object]]:
        return read_projection(self.settings, KeyType.ORDERS)

    def positions(self) -> dict[str, float]:
        return {name: _int(row["qty"]) / FIXED for name, row in self.position_rows().items() if row["qty"]}

    def position_rows(self) -> dict[str, dict[str, object]]:
        return read_projection(self.settings, KeyType.POSITIONS)

    def outcomes(self) -> dict[str, dict[str, object]]:
        return read_projection(self.settings, KeyType.OUTCOMES)

    def wait(self, condition: Callable[[], object], seconds_max: float, what: str) -> None:
        """Until the condition is truthy; a server that is away just now is a condition not met."""
        deadline = time.monotonic() + seconds_max
        last: object = None
        while time.monotonic() < deadline:
            assert self.process is None or self.process.poll() is None, f"run.py ended:\n{self.output()}"
            try:
                last = condition()
                if last:
                    return
            except (NotRunning, EngineAway, ConnectionError, FileNotFoundError) as error:
                last = error
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds_max} s: {what} (last: {last!r})\n{self.output()}")

    def all_serve(self) -> bool:
        """Every process of the status runs under the pid that it says, and the tree is complete."""
        processes = self.status().processes
        roles = {one.role for one in processes}
        return {"root", "broker.paper", "reconciler", "allocator"} <= roles and all(
            one.state == "running" and one.pid and runs(one.pid) for one in processes
        )

    def wait_serving(self, seconds_max: float = 120.0) -> None:
        self.wait(self.all_serve, seconds_max, "every process runs")

    # ---- the gateway's own word

    def strikes(self, role: str) -> None:
        """A test kills or hangs this process: what the gateway's end makes of errors is then explained."""
        if role in ("gateway", "run.py"):
            self.scripted.add("killed")

    def gateway(self, command: str, **fields: object) -> dict[str, object]:
        self.scripted.add(str(fields.get("kind", command)))
        address = json.loads((self.run_dir / "gateway" / "gateway.json").read_bytes())
        with socket.create_connection(("127.0.0.1", address["control_port"]), timeout=30) as connection:
            connection.sendall(json.dumps({"cmd": command, **fields}).encode() + b"\n")
            reply: dict[str, object] = json.loads(connection.makefile().readline())
        return reply

    def gateway_positions(self) -> dict[str, float]:
        rows = self.gateway("list_positions")["positions"]
        assert isinstance(rows, list)
        return {row["symbol"]: float(row["qty"]) for row in rows if float(row["qty"])}

    def gateway_orders(self) -> list[dict[str, object]]:
        rows = self.gateway("list_orders")["orders"]
        assert isinstance(rows, list)
        return rows


def kill_role(engine: EngineRun, role: str) -> int:
    """SIGKILL to whoever holds the role now; its pid."""
    pid = engine.pids()[role]
    engine.strikes(role)
    os.kill(pid, signal.SIGKILL)
    return pid


def runs(pid: int) -> bool:
    """Whether the process exists and is no zombie (which some init may be slow to collect)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
