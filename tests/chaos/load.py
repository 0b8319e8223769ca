"""Signals by hand, and prices that make their brackets fill: what an engine works on while it is being killed."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

import redis

from actors.adapters.bus_streams import BusFull
from actors.adapters.inspection import EngineAway
from supervisors.commands import send_signals
from supervisors.run_files import NotRunning
from tests.chaos.engine_process import EngineRun

PRICES = {"AAPL": 200, "MSFT": 400, "SPY": 500}
QUIET = (
    "momentum.enabled=false",
    "venues.gateway.walk=false",
    "fund.max_position_notional=10000000",
    "fund.max_gross_notional=100000000",
    "fund.max_open_brackets=1000",
    "risk.rejects_max=0",
    "risk.ack_slow_max=0",
    "risk.divergence_s_max=0",
    "risk.daily_loss_max=0",
)
"""No market but ours, and room for every signal."""

AWAY = (NotRunning, EngineAway, ConnectionError, FileNotFoundError, TimeoutError, redis.RedisError)
"""What a publish or a command raises while somebody is dead. Either it was done then or it was not."""


class Load:
    """Publishes signals and moves prices, in an order that a seed gives. `published`: those that the bus took."""

    def __init__(self, engine: EngineRun, seed: int, ttl_s: float = 120.0) -> None:
        self.engine = engine
        self.ttl_s = ttl_s
        self.random = random.Random(f"load {seed}")
        self.published: list[str] = []
        self.number = 0
        self._folder = Path(tempfile.mkdtemp(prefix="signals-", dir=engine.run_dir.parent))

    def price(self, symbol: str, offset: str = "0") -> None:
        """Set a price, a cent around its usual one plus an offset in whole units."""
        px = PRICES[symbol] + int(offset)
        self.engine.gateway("set_price", symbol=symbol, bid=f"{px}.00", ask=f"{px}.02", last=f"{px}.01")

    def prices(self) -> bool:
        """All at their usual; True."""
        for symbol in PRICES:
            self.price(symbol)
        return True

    def signal(self, symbol: str = "", side: str = "", times: int = 1, limit: bool = False) -> str:
        """Publish a new signal, `times` times over, until the bus has taken it once; its id, or nothing if it has not.

        Each has a strategy of its own, so that no slot is ever taken. `limit`: enters at its reference or not at all.
        """
        self.number += 1
        name = f"s{self.number:04d}"
        symbol = symbol or self.random.choice(sorted(PRICES))
        side = side or self.random.choice(("BUY", "SELL"))
        px, sign = PRICES[symbol], 1 if side == "BUY" else -1
        form = {
            "signal_id": name,
            "strategy": f"by-hand-{self.number}",
            "symbol": symbol,
            "side": side,
            "reference": str(px),
            "take_profit": str(px + 5 * sign),
            "stop": str(px - 5 * sign),
            "ttl_s": self.ttl_s,
        }
        if limit:
            form["limit"] = str(px)
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(form))
        taken = 0
        for _ in range(times):
            try:
                send_signals(self.engine.settings, str(path))
                taken += 1
            except (*AWAY, BusFull):
                continue
        if taken:
            self.published.append(name)
        return name if taken else ""

    def step(self) -> None:
        """One of: a signal, a signal twice, a price that takes profits or stops out, prices back."""
        choice = self.random.random()
        try:
            if choice < 0.6:
                self.signal()
            elif choice < 0.75:
                self.signal(times=2)
            elif choice < 0.9:
                self.price(self.random.choice(sorted(PRICES)), self.random.choice(("6", "-6")))
            else:
                self.prices()
        except (*AWAY, json.JSONDecodeError, OSError):
            return

    def exit_all(self) -> bool:
        """Move every price up and down past all exits, so that brackets end; True."""
        for offset in ("6", "-6", "0"):
            for symbol in PRICES:
                self.price(symbol, offset)
        return True
