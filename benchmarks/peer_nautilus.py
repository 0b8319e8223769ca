"""NautilusTrader's backtest engine on quote ticks, with a strategy in Python: run in an environment that has it.

`python peer_nautilus.py QUOTES` writes the quotes a second as its last line. The strategy counts its quotes and does
no more; ticks are made before the clock starts. Source: NautilusTrader's documentation, "Backtest (low-level API)".
"""

from __future__ import annotations

import sys
import time

from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig  # type: ignore[import-not-found]
from nautilus_trader.config import LoggingConfig, StrategyConfig  # type: ignore[import-not-found]
from nautilus_trader.model.currencies import USDT  # type: ignore[import-not-found]
from nautilus_trader.model.data import QuoteTick  # type: ignore[import-not-found]
from nautilus_trader.model.enums import AccountType, OmsType  # type: ignore[import-not-found]
from nautilus_trader.model.identifiers import Venue  # type: ignore[import-not-found]
from nautilus_trader.model.objects import Money, Price, Quantity  # type: ignore[import-not-found]
from nautilus_trader.test_kit.providers import TestInstrumentProvider  # type: ignore[import-not-found]
from nautilus_trader.trading.strategy import Strategy  # type: ignore[import-not-found]


class Counting(Strategy):
    """Takes each quote."""

    def __init__(self, instrument_id: object) -> None:
        super().__init__(StrategyConfig())
        self.instrument_id, self.quotes = instrument_id, 0

    def on_start(self) -> None:
        """Subscribe."""
        self.subscribe_quote_ticks(self.instrument_id)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        """Count."""
        self.quotes += 1


def main() -> None:
    """Run once."""
    count = int(sys.argv[1])
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    instrument = TestInstrumentProvider.btcusdt_binance()
    engine.add_venue(
        venue=Venue("BINANCE"),
        oms_type=OmsType.NETTING,
        account_type=AccountType.CASH,
        base_currency=None,
        starting_balances=[Money(1_000_000, USDT)],
    )
    engine.add_instrument(instrument)
    bids = [Price.from_str(f"{50_000 + step % 100}.00") for step in range(100)]
    asks = [Price.from_str(f"{50_001 + step % 100}.00") for step in range(100)]
    size = Quantity.from_str("1.000000")
    began_ns = 1_700_000_000_000_000_000
    engine.add_data(
        [
            QuoteTick(instrument.id, bids[at % 100], asks[at % 100], size, size, at_ns, at_ns)
            for at, at_ns in enumerate(range(began_ns, began_ns + count * 1_000, 1_000))
        ]
    )
    strategy = Counting(instrument.id)
    engine.add_strategy(strategy)
    began = time.perf_counter()
    engine.run()
    took_s = time.perf_counter() - began
    assert strategy.quotes == count, f"{strategy.quotes} of {count} quotes came"
    print(count / took_s)


if __name__ == "__main__":
    main()
