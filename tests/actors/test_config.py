"""Settings: defaults, files, overrides, and errors that name key, value, what is allowed and the remedy."""

from __future__ import annotations

import pickle
from decimal import Decimal
from pathlib import Path

import pytest

from config.execution import EXPLICIT_TO_TRADE
from config.schema import EXPLICIT_IN_LIVE, FaultRule, Settings, SettingsError, load
from tests.conftest import ROOT

PAPER, LIVE = ROOT / "config" / "paper.toml", ROOT / "config" / "live.toml"

LIVE_VALUES = (
    "exchange.rest_url=https://exchange.invalid",
    "exchange.ws_url=wss://exchange.invalid",
    "exchange.fee_bps=7.5",
    "evaluator.dry_run=true",
    "gateway.port=4001",
    "gateway.client_id=3",
    "gateway.account=U1",
    "run.live_interlock=real money in U1",
    "fund.name=apex",
    'fund.symbols=["AAPL"]',
    "fund.equity=5000",
    "fund.fraction=0.01",
    "fund.max_position_notional=100",
    "fund.max_gross_notional=200",
    "fund.max_open_brackets=1",
    "risk.daily_loss_max=1000",
    "momentum.enabled=false",
)


def test_the_paper_file_says_what_the_defaults_are() -> None:
    assert load(PAPER) == load() == Settings()


def test_a_dry_run_is_the_default() -> None:
    assert load().evaluator.dry_run is True


def test_settings_travel_between_processes() -> None:
    settings = load(PAPER)
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_a_live_start_names_every_key_that_has_no_value() -> None:
    with pytest.raises(SettingsError) as refused:
        load(LIVE)
    for dotted in set(EXPLICIT_IN_LIVE) - {"venues.embedded"}:
        assert dotted in str(refused.value)
    assert "Remedy" in str(refused.value)


def test_a_live_start_goes_with_every_value_given_and_without_paper_venues() -> None:
    settings = load(LIVE, LIVE_VALUES)
    assert (settings.run.mode, settings.gateway.port, settings.fund.equity) == ("live", 4001, Decimal(5000))
    for n in range(len(LIVE_VALUES)):
        with pytest.raises(SettingsError, match=LIVE_VALUES[n].partition("=")[0]):
            load(LIVE, LIVE_VALUES[:n] + LIVE_VALUES[n + 1 :])
    with pytest.raises(SettingsError, match=r"gateway\.port is 0"):
        load(LIVE, (*LIVE_VALUES, "gateway.port=0"))
    with pytest.raises(SettingsError, match=r"venues\.embedded is true"):
        load(LIVE, (*LIVE_VALUES, "venues.embedded=true"))


def test_overrides_are_read_as_toml_and_as_text_where_they_are_none() -> None:
    settings = load(
        PAPER,
        [
            "exchange.fee_bps=7.5",
            "fund.equity=0.1",
            "gateway.account=DU9",
            'exchange.symbols=["BTCUSDT", "币安人生USDT"]',
            "venues.exchange.seed=9",
            'faults.plan=[{point = "after_append", action = "crash", role = "broker.paper", nth = 3}]',
        ],
    )
    assert settings.exchange.fee_bps == 7.5
    assert settings.fund.equity == Decimal("0.1")
    assert settings.gateway.account == "DU9"
    assert settings.exchange.symbols == ("BTCUSDT", "币安人生USDT")
    assert settings.venues.exchange.seed == 9
    assert settings.faults.plan == (FaultRule(point="after_append", action="crash", role="broker.paper", nth=3),)


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("gateway.prot=1", r"gateway\.prot is no setting; did you mean 'port'\? allowed: host, port"),
        ("gatway.port=1", r"gatway is no setting; did you mean 'gateway'"),
        ("venues.exchange.sed=1", r"venues\.exchange\.sed is no setting; did you mean 'seed'"),
        ("gateway.port=70000", r"gateway\.port is 70000; allowed: `int` <= 65535"),
        ("gateway.port=abc", r"gateway\.port is 'abc'; allowed: `int`, got `str`"),
        ("gateway.host=10.0.0.1", r"gateway\.host is '10\.0\.0\.1'; allowed: .*127"),
        ("gateway.client_id=0", r"gateway\.client_id is 0; allowed: `int` >= 1"),
        ("run.run_dir=", r"run\.run_dir is ''; allowed: `str` matching"),
        ("run.mode=real", r"run\.mode is 'real'; allowed: 'paper', 'live'"),
        ("exchange.symbols=some", r"exchange\.symbols is 'some'; allowed: 'all'"),
        ("exchange.symbols=[]", r"exchange\.symbols is \[\]; allowed: .*length >= 1"),
        ("exchange.symbols_per_connection_max=201", r"is 201; allowed: `int` <= 200"),
        ("evaluator.dry_run=1", r"evaluator\.dry_run is 1; allowed: `bool`, got `int`"),
        ("fund.fraction=1.5", r"fund\.fraction is 1\.5; allowed: `float` <= 1"),
        ("fund.equity=-1", r"fund\.equity is -1; allowed: above 0"),
        ("fund.equity=nan", r"fund\.equity is "),
        ("fund.equity=1e300", r"fund\.equity is "),
        ("fund.name=Bad Name", r"fund\.name is 'Bad Name'; allowed: .*regex"),
        ("supervision.dead_after_s=6", r"supervision\.dead_after_s is 6; allowed: at least twice"),
        ("evaluator.cycle_lengths=[5]", r"evaluator\.cycle_lengths\[0\] is 5; allowed: 3, 4"),
        ("evaluator.cycle_lengths=[]", r"evaluator\.cycle_lengths is \[\]; allowed: .*length >= 1"),
        ("exchange.fee_bps=10000", r"exchange\.fee_bps is 10000\.0; allowed: 0 to below 10000"),
        ('exchange.fees={"*USDT"=0.00001}', r"exchange\.fees\.\*USDT is 1e-05; allowed: .*steps of 0\.0001"),
        ("exchange.fee_discount_percent=25", r"fee_discount_percent is 25, and exchange\.fee_token is empty"),
        ("exchange.start_amount_max={BTC=1}", r"start_asset is 'USDT', and exchange\.start_amount_max has no figure"),
        ("exchange.start_amount_max={USDT=0}", r"exchange\.start_amount_max\.USDT is 0; allowed: above 0"),
        ("exchange.start_amount_max=-1", r"exchange\.start_amount_max is -1; allowed: above 0"),
        ("exchange.start_amount_max={}", r"exchange\.start_amount_max is an empty table"),
        ("exchange.header_stale_ms=60", r"exchange\.header_stale_ms is 60; allowed: at least twice"),
        ("execution.mode=both", r"execution\.mode is 'both'; allowed: 'sequence', 'at_once'"),
        ("execution.start_amount_max=0", r"execution\.start_amount_max is 0; allowed: above 0"),
        ("execution.start_amount_max={BTC=-1}", r"execution\.start_amount_max\.BTC is -1; allowed: above 0"),
        ("execution.absent_grace_ms=4000", r"execution\.absent_grace_ms is 4000; allowed: above 4000"),
        ("execution.breaker.failures_max=20", r"execution\.breaker\.failures_max is 20; allowed: below"),
        ("execution.breaker.loss_max=0", r"execution\.breaker\.loss_max is 0; allowed: above 0"),
        ("execution.breaker.slip_bps_max=0.5", r"execution\.breaker\.slip_bps_max is 0\.5; allowed: whole"),
        ("execution.unwind_slippage_bps_max=10000", r"unwind_slippage_bps_max is 10000; allowed: whole, below 10000"),
        ("execution.breaker.wndow=3", r"execution\.breaker\.wndow is no setting; did you mean 'window'"),
        ("reconciler.positions_every_s=600", r"positions_every_s is 600; allowed: at most"),
        ('faults.plan=[{point="recieve", action="crash"}]', r"faults\.plan\[0\]\.point is 'recieve'; allowed: 'rec"),
        ('faults.plan=[{point="receive", action="crash", x=1}]', r"faults\.plan\[0\]\.x is no setting; .*nth"),
        ('faults.plan=[{point="receive"}]', r"faults\.plan\[0\]\.action is missing"),
    ],
)
def test_an_error_names_key_value_allowed_and_remedy(override: str, error: str) -> None:
    with pytest.raises(SettingsError, match=rf"{error}(.|\n)*Remedy"):
        load(PAPER, [override])


@pytest.mark.parametrize("override", ["gateway.port", "gateway=3", "=3", ".a=3", "gateway..port=3"])
def test_an_override_of_another_form_is_refused(override: str) -> None:
    with pytest.raises(SettingsError, match=r"must be section\.key=value"):
        load(None, [override])


def test_an_override_cannot_go_through_a_value(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[gateway]\nport = 1\n")
    with pytest.raises(SettingsError, match="is a value, not a section"):
        load(path, ["gateway.port.x=1"])


def test_a_file_that_is_absent_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml: No such file.*Remedy"):
        load(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[run\n")
    with pytest.raises(SettingsError, match=r"broken\.toml: not TOML.*line 1.*Remedy"):
        load(broken)


def test_live_cycles_need_an_api_key_file_and_a_dry_run_does_not(tmp_path: Path) -> None:
    path = tmp_path / "live.toml"
    path.write_text('[run]\nmode = "live"\n[evaluator]\ndry_run = false\n')
    with pytest.raises(SettingsError, match=r"exchange\.api_key_file"):
        load(path)
    path.write_text('[run]\nmode = "live"\n[evaluator]\ndry_run = true\n')
    with pytest.raises(SettingsError) as refused:
        load(path)
    assert "exchange.api_key_file" not in str(refused.value)


@pytest.mark.parametrize(
    "override", ["exchange.recv_window_ms=5001", "exchange.recv_window_ms=0", "exchange.request_s_max=0"]
)
def test_a_window_longer_than_what_the_executor_counts_on_is_refused(override: str) -> None:
    with pytest.raises(SettingsError, match=r"exchange\.re.*allowed"):
        load(None, [override])


def test_trading_cycles_live_asks_for_every_value_that_touches_money() -> None:
    given = [
        "run.mode=live",
        "run.live_interlock=real money in U1",
        "exchange.rest_url=https://x",
        "exchange.ws_url=wss://x",
        "exchange.fee_bps=10",
        "gateway.port=4001",
        "gateway.client_id=1",
        "gateway.account=U1",
        "fund.name=apex",
        "fund.symbols=['SPY']",
        "fund.equity=1000",
        "fund.fraction=0.01",
        "fund.max_position_notional=10",
        "fund.max_gross_notional=10",
        "fund.max_open_brackets=1",
        "risk.daily_loss_max=1000",
        "momentum.enabled=false",
        "venues.embedded=false",
    ]
    assert load(None, [*given, "evaluator.dry_run=true"]).run.mode == "live"
    with pytest.raises(SettingsError, match="have no value") as refused:
        load(None, [*given, "evaluator.dry_run=false"])
    for name in EXPLICIT_TO_TRADE:
        assert name in str(refused.value)


def test_a_zone_of_the_gateway_that_this_machine_does_not_know_is_refused_with_its_remedy() -> None:
    with pytest.raises(SettingsError, match=r"gateway.zone is 'Mars'.*Remedy"):
        load(None, ["gateway.zone=Mars"])
    with pytest.raises(SettingsError, match=r"gateway.login_day is 'someday'; allowed: 'monday'"):
        load(None, ["gateway.login_day=someday"])
