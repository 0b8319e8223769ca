"""The settings of account and orders, and their part of the command line."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from venues.exchange.orders import UNIT

_BALANCE: Final = re.compile(r"([^=\s]{1,32})=([0-9]{1,10}(?:\.[0-9]{1,8})?)")
_RATE: Final = re.compile(r"([^=\s]{1,32})=([0-9]{1,4}(?:\.[0-9]{1,4})?)")
BALANCES_DEFAULT: Final = ("USDT=10000", "BTC=1", "ETH=10", "BNB=20")


class TradingSettingsError(ValueError):
    """A setting of account or orders that cannot work; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class TradingSettings:
    """`balances` (`ASSET=AMOUNT`) count for a new state folder only; `commissions` are `SYMBOL=BPS`."""

    balances: tuple[str, ...] = BALANCES_DEFAULT
    commission_bps: str = "10"
    commissions: tuple[str, ...] = ()
    bnb_discount: bool = False
    listen_key_s: float = 3_600.0
    orders_per_10s_max: int = 100
    orders_per_day_max: int = 200_000

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        self.start_balances()
        self.rate()
        self.rates()
        if self.listen_key_s <= 0:
            raise TradingSettingsError(f"--listen-key-s {self.listen_key_s:g}: must be positive")
        if min(self.orders_per_10s_max, self.orders_per_day_max) < 1:
            raise TradingSettingsError("--orders-per-10s, --orders-per-day: at least 1")

    def start_balances(self) -> dict[str, int]:
        """Return the balances of a new account, Fixed8."""
        found: dict[str, int] = {}
        for text in self.balances:
            match = _BALANCE.fullmatch(text)
            if match is None or match[1] in found:
                raise TradingSettingsError(f"--balance {text}: must be ASSET=AMOUNT, each asset once, e.g. USDT=10000")
            found[match[1]] = int(Decimal(match[2]) * UNIT)
        return found

    def rate(self) -> int:
        """Return the commission of a trade as a count of 1e-8."""
        try:
            rate = Decimal(self.commission_bps)
        except InvalidOperation:
            rate = Decimal(-1)
        if not 0 <= rate < 1_000:
            raise TradingSettingsError(f"--commission-bps {self.commission_bps}: must be 0 to 999, e.g. 7.5")
        return int(rate * UNIT / 10_000)

    def rates(self) -> dict[str, int]:
        """Return the commissions of single symbols as counts of 1e-8."""
        found: dict[str, int] = {}
        for text in self.commissions:
            match = _RATE.fullmatch(text)
            if match is None or Decimal(match[2]) >= 1_000:
                raise TradingSettingsError(f"--commission {text}: must be SYMBOL=BPS below 1000, e.g. BTCUSDT=0")
            found[match[1]] = int(Decimal(match[2]) * UNIT / 10_000)
        return found


def add_trading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of account and orders."""
    default = TradingSettings()
    add = parser.add_argument
    add("--balance", nargs="+", default=list(default.balances), help="of a new account: USDT=10000 BTC=1 …")
    add("--commission-bps", default=default.commission_bps, help="commission of a trade")
    add("--commission", nargs="+", default=[], help="commission of single symbols: BTCUSDT=0 …")
    add("--bnb-discount", action="store_true", help="pay commission in BNB, a quarter off, while there is some")
    add("--listen-key-s", type=float, default=default.listen_key_s, help="life of a user stream without keepalive")
    add("--orders-per-10s", type=int, default=default.orders_per_10s_max, help="new orders before -1015")
    add("--orders-per-day", type=int, default=default.orders_per_day_max, help="new orders before -1015")


def trading_settings_from(arguments: argparse.Namespace) -> TradingSettings:
    """Return the checked settings of a parsed command line. Raises TradingSettingsError."""
    return TradingSettings(
        balances=tuple(arguments.balance),
        commission_bps=arguments.commission_bps,
        commissions=tuple(arguments.commission),
        bnb_discount=arguments.bnb_discount,
        listen_key_s=arguments.listen_key_s,
        orders_per_10s_max=arguments.orders_per_10s,
        orders_per_day_max=arguments.orders_per_day,
    )
