"""Paper and live cannot be confused: every pair of account, port, mode and words that disagrees is refused."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from config.interlock import LIVE_PORTS, PAPER_PORTS, account_mode, exchange_fault, gateway_fault, session_fault
from config.schema import SettingsError, load
from tests.actors.ib_bench import Bench
from tests.venues.gateway_process import GatewayProcess

ACCOUNTS = {"DU1234567": "paper", "DF77": "paper", "U1234567": "live", "F1": "live", "X1": "", "DU": "", "": ""}


def test_an_accounts_name_says_what_it_is() -> None:
    assert {account: account_mode(account) or "" for account in ACCOUNTS} == ACCOUNTS


def test_of_all_combinations_only_those_that_agree_in_everything_start() -> None:
    ports = {0: "any", 4002: "paper", 7497: "paper", 4001: "live", 7496: "live", 50000: "any"}
    for mode, account, port, words in itertools.product(
        ("paper", "live"), ACCOUNTS, ports, ("", "real money in U1234567", "real money in F1", "yes")
    ):
        fault = gateway_fault(mode, account, port, words)  # type: ignore[arg-type]
        agrees = ACCOUNTS[account] == mode and (
            (mode == "paper" and ports[port] != "live" and not words)
            or (mode == "live" and ports[port] == "live" and words == f"real money in {account}")
        )
        assert (not fault) == agrees, (mode, account, port, words, fault)
        assert agrees or "Remedy" in fault
    assert not LIVE_PORTS & PAPER_PORTS


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("gateway.account=U1234567", "gateway.account is 'U1234567' and run.mode is 'paper'"),
        ("gateway.port=4001", "gateway.port is 4001, where a live gateway listens"),
        ("run.live_interlock=real money in DU1234567", "run.live_interlock"),
    ],
)
def test_a_start_that_disagrees_is_refused_with_field_value_and_remedy(override: str, named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(None, [override])
    assert named in str(refused.value)
    assert "Remedy" in str(refused.value)


def test_in_paper_mode_no_cycle_is_sent_off_this_machine() -> None:
    assert exchange_fault("paper", False, "https://exchange.invalid")
    assert not exchange_fault("paper", True, "https://exchange.invalid")
    assert not exchange_fault("live", False, "https://exchange.invalid")
    for url in ("http://127.0.0.1:9100", "http://[::1]:9100", "http://localhost:9100", ""):
        assert not exchange_fault("paper", False, url)


def test_a_gateway_of_the_other_kind_is_not_the_one_that_was_meant() -> None:
    assert not session_fault("paper", ("DU1", "DF2"))
    assert "U1" in session_fault("paper", ("DU1", "U1"))
    assert "DU1" in session_fault("live", ("DU1",))


@pytest.mark.process
def test_a_session_with_a_live_account_is_never_opened_in_paper_mode(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, "--account", "U7654321") as gateway, Bench(gateway.port, account="U7654321") as bench:
        deadline = time.monotonic() + 30
        while not any("U7654321" in str(getattr(event, "text", "")) for event in bench.events):
            assert time.monotonic() < deadline, bench.events
            bench.pump()
        assert not any(type(event).__name__ == "SessionOpened" for event in bench.events)
