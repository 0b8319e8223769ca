"""Unmodified clients, each in an environment of its own: one whole session, and everybody is told the same.

The environments are those of `make clients`, which `make test` builds; a run of pytest alone builds what is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.venues.gateway_process import ROOT, GatewayProcess

pytestmark = pytest.mark.process
SESSIONS = ROOT / "tests" / "venues" / "clients"
INSTALL_S_MAX, SESSION_S_MAX = 300, 150

EXPECTED: dict[str, Any] = {
    "account": "DU1234567",
    "stock": [265598, "APPLE INC", 0.01, "NASDAQ"],
    "hours": True,
    "option": ["OPT", 500.0, "C", "100", "SPY   ", "SPY"],
    "chain": [True, True, "100"],
    "futures": [5, "50", 0.25],
    "samples": ["AAPL", ["OPT"]],
    "bars": [14, True],
    "days": True,
    "head": "2004-01-23",
    "quote": [190.0, 190.02],
    "delta": True,
    "entry": [190.02, 1.0, None],
    "children": ["Submitted", "PreSubmitted", "trigger"],
    "what_if": 1.0,
    "sale": [190.0, -4.0],
    "option_trade": ["OPT", 2],
    "future_trade": ["FUT", 2],
    "held": [["FUT", 2, True], ["OPT", 2, True]],
    "executions": [["STK", "BOT", 100], ["STK", "SLD", 100], ["OPT", "BOT", 2], ["FUT", "BOT", 2]],
    "completed": ["Cancelled", "Cancelled", "Filled", "Filled", "Filled", "Filled"],
    "open": 0,
    "summary": True,
    "pnl": -4.0,
    "codes": [202],
    "error_records": [],
}


def client_python(name: str) -> str:
    """Return the interpreter of a client's environment, built as `make test` does where it is missing."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    built = subprocess.run(
        ["make", "-s", "clients", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=INSTALL_S_MAX,
        check=False,
    )
    assert built.returncode == 0, f"make clients: {built.stdout}{built.stderr}"
    return str(ROOT / f".venv-{name}" / "bin" / "python")


def session(folder: Path, *command: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run one client's session; return what it said and the orders that the gateway has."""
    with GatewayProcess(folder) as gateway:
        gateway.set_price("AAPL", "190.00", "190.02")
        ran = subprocess.run(
            [*command, str(gateway.port)], capture_output=True, text=True, timeout=SESSION_S_MAX, check=False
        )
        assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}\n{gateway.log}"
        said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
        assert gateway.status()["counters"].get("unreadable_requests", 0) == 0
        assert gateway.status()["counters"].get("unknown_requests", 0) == 0
        return said, gateway.orders()


@pytest.mark.parametrize(("name", "version"), [("ib_insync", 176), ("ib_async", 178), ("ibapi", 157)])
def test_a_client_asks_for_everything_and_trades_a_bracket_an_option_and_a_future(
    tmp_path: Path, name: str, version: int
) -> None:
    if name == "ib_insync":
        command = [sys.executable, str(SESSIONS / "insync_session.py"), name]
    elif name == "ib_async":
        command = [client_python(name), str(SESSIONS / "insync_session.py"), name]
    else:
        command = [client_python(name), str(SESSIONS / "ibapi_session.py")]
    said, orders = session(tmp_path, *command)
    if name == "ib_async":
        # It logs 202, the confirmation of a cancel, as an error.
        said["error_records"] = [text for text in said["error_records"] if not text.startswith("Error 202,")]
    assert said == {**EXPECTED, "version": version}
    assert [row["status"] for row in orders] == ["Filled", "Cancelled", "Cancelled", "Filled", "Filled", "Filled"]
