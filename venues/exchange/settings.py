"""The settings of the paper exchange, checked once, and the command line that fills them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast, get_args

from venues.exchange.trading_settings import (
    TradingSettings,
    add_trading_arguments,
    trading_settings_from,
)

# Field note 6: the real exchange answered HTTP 414 to more than 200 streams, whatever its documentation said (1,024).
STREAMS_PER_CONNECTION_MAX: Final = 200
# The real limit on what a client may send: JSON requests, pings and pongs together.
INBOUND_PER_S_MAX: Final = 5

# A prepared update takes about a kilobyte of memory and 15 µs of the start.
PREPARED_MAX: Final = 1_000_000

PlayOn = Literal["start", "subscribe", "command"]


class SettingsError(ValueError):
    """A setting that cannot work; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """Everything the exchange may be told.

    With `record` empty prices come from the seeded generator, else from the files, in order of receive time.
    `rate_per_s`, `pace` of 0 mean as fast as the slowest consumer reads. `opportunity_every_s` of 0 injects none.
    `inbound_per_s_max` of 0 lifts that limit. `port` 0 picks a free one, told in `state_dir/exchange.json`.
    """

    state_dir: Path = Path("run/exchange")
    host: str = "127.0.0.1"
    port: int = 9100
    seed: int = 1
    symbols: int = 60
    exchange_info: Path | None = None
    record: tuple[Path, ...] = ()
    pace: float = 1.0
    play_on: PlayOn = "subscribe"
    rate_per_s: float = 2000.0
    prepared: int = 0
    opportunity_every_s: float = 2.0
    opportunity_ms: float = 300.0
    opportunity_fee_bps: int = 10
    opportunity_net_bps_min: int = 30
    opportunity_net_bps_max: int = 60
    ping_interval_s: float = 20.0
    pong_timeout_s: float = 60.0
    connection_life_s: float = 86_400.0
    streams_per_connection_max: int = STREAMS_PER_CONNECTION_MAX
    inbound_per_s_max: int = INBOUND_PER_S_MAX
    buffer_bytes_max: int = 4 * 1024 * 1024
    weight_per_minute_max: int = 6_000
    trading: TradingSettings = field(default_factory=TradingSettings)

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is opened."""
        _require(0 <= self.port <= 65535, f"--port {self.port}: must be 0 (pick one) to 65535")
        _require(self.host in ("127.0.0.1", "::1", "localhost"), f"host {self.host}: the exchange stays on loopback")
        _require(self.symbols >= 3, f"--symbols {self.symbols}: a cycle needs at least 3")
        _require(self.pace >= 0, f"--pace {self.pace}: must be 0 (as fast as read) or a positive multiple")
        _require(self.rate_per_s >= 0, f"--rate {self.rate_per_s}: must be 0 (as fast as read) or positive")
        _require(
            self.prepared == 0 or 1_000 <= self.prepared <= PREPARED_MAX,
            f"--prepared {self.prepared}: must be 0 (none) or 1000 to {PREPARED_MAX} updates",
        )
        _require(self.opportunity_every_s >= 0, "--opportunity-every-s: must be 0 (none) or positive")
        _require(
            self.opportunity_every_s == 0 or self.opportunity_ms / 1e3 <= self.opportunity_every_s / 2,
            f"--opportunity-ms {self.opportunity_ms:g}: at most half of --opportunity-every-s, one stands at a time",
        )
        _require(
            0 < self.opportunity_net_bps_min <= self.opportunity_net_bps_max, "opportunity net bps: 0 < min <= max"
        )
        _require(0 <= self.opportunity_fee_bps < 1000, "--opportunity-fee-bps: must be 0 to 999")
        _require(min(self.ping_interval_s, self.pong_timeout_s, self.connection_life_s) > 0, "times must be positive")
        _require(self.buffer_bytes_max >= 4096, "--buffer-bytes: at least 4096")
        _require(self.streams_per_connection_max >= 1, "streams a connection: at least 1")
        _require(
            not self.record or self.exchange_info is not None,
            "--record needs --exchange-info FILE too: a recording does not say what is listed",
        )
        for path in (*self.record, *([self.exchange_info] if self.exchange_info else [])):
            _require(
                path.is_file(), f"{path}: no such file; give a recorded file or an exchangeInfo reply (.gz or not)"
            )


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise SettingsError(text)


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a folder")
    return Path(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the exchange's options to a parser (of `run.py exchange` or of the module)."""
    default = ExchangeSettings()
    add = parser.add_argument
    add("--port", type=int, default=default.port, help="0 picks a free one; told in STATE/exchange.json")
    add(
        "--state",
        type=_folder,
        default=default.state_dir,
        help="folder of update ids, opportunity ledger, exchange.json",
    )
    add("--seed", type=int, default=default.seed, help="of the generated prices and opportunities")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--symbols", type=int, default=default.symbols, help="how many symbols to generate")
    shape.add_argument(
        "--exchange-info", type=Path, default=None, help="an exchangeInfo reply to list instead (.gz too)"
    )
    add("--record", type=Path, nargs="+", default=[], help="recorded streams or a bookTicker snapshot, not generated")
    add("--pace", type=float, default=default.pace, help="multiple of the recorded pace; 0: as fast as it is read")
    add("--play-on", choices=get_args(PlayOn), default=default.play_on, help="when a recording begins")
    add("--rate", type=float, default=default.rate_per_s, help="generated updates/s; 0: as fast as they are read")
    add("--prepared", type=int, default=default.prepared, help="updates made ahead and played to and fro; 0: none")
    add("--opportunity-every-s", type=float, default=default.opportunity_every_s, help="0: none")
    add("--opportunity-ms", type=float, default=default.opportunity_ms, help="how long each stands")
    add("--opportunity-fee-bps", type=int, default=default.opportunity_fee_bps, help="fee a leg that each one beats")
    add("--ping-interval-s", type=float, default=default.ping_interval_s)
    add("--pong-timeout-s", type=float, default=default.pong_timeout_s)
    add("--connection-life-s", type=float, default=default.connection_life_s, help="the daily disconnect")
    add("--inbound-per-s", type=int, default=default.inbound_per_s_max, help="messages a client may send; 0: any")
    add("--buffer-bytes", type=int, default=default.buffer_bytes_max, help="unread by a consumer before it is cut off")
    add("--weight-per-minute", type=int, default=default.weight_per_minute_max, help="request weight before HTTP 429")
    add_trading_arguments(parser)


def settings_from(arguments: argparse.Namespace) -> ExchangeSettings:
    """Return the checked settings of a parsed command line. Raises SettingsError."""
    return ExchangeSettings(
        state_dir=arguments.state,
        port=arguments.port,
        seed=arguments.seed,
        symbols=arguments.symbols,
        exchange_info=arguments.exchange_info,
        record=tuple(arguments.record),
        pace=arguments.pace,
        play_on=cast(PlayOn, arguments.play_on),
        rate_per_s=arguments.rate,
        prepared=arguments.prepared,
        opportunity_every_s=arguments.opportunity_every_s,
        opportunity_ms=arguments.opportunity_ms,
        opportunity_fee_bps=arguments.opportunity_fee_bps,
        ping_interval_s=arguments.ping_interval_s,
        pong_timeout_s=arguments.pong_timeout_s,
        connection_life_s=arguments.connection_life_s,
        inbound_per_s_max=arguments.inbound_per_s,
        buffer_bytes_max=arguments.buffer_bytes,
        weight_per_minute_max=arguments.weight_per_minute,
        trading=trading_settings_from(arguments),
    )
