"""A small hand-made market for replays: four assets, six markets, and the lines of a recording."""

from __future__ import annotations

import json
from collections.abc import Sequence

PAIRS = (("BTC", "USDT"), ("ETH", "USDT"), ("ETH", "BTC"), ("BNB", "USDT"), ("BNB", "BTC"), ("BNB", "ETH"))
NAMES = tuple(base + quote for base, quote in PAIRS)
# Prices consistent with each other: no cycle gains.
FAIR = {"BTCUSDT": "30000", "ETHUSDT": "2000", "ETHBTC": "0.0666", "BNBUSDT": "300", "BNBBTC": "0.01", "BNBETH": "0.15"}


def exchange_info(pairs: Sequence[tuple[str, str]] = PAIRS, lot: str = "0.00000001", notional: str = "0.0") -> bytes:
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.00000001"},
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "1000000.0", "stepSize": lot},
        {"filterType": "MIN_NOTIONAL", "minNotional": notional},
    ]
    symbols = [
        {"symbol": base + quote, "status": "TRADING", "baseAsset": base, "quoteAsset": quote, "filters": filters}
        for base, quote in pairs
    ]
    return json.dumps({"symbols": symbols}).encode()


def ticker(name: str, update_id: int, bid: str, ask: str, qty: str = "10") -> bytes:
    data = {"u": update_id, "s": name, "b": bid, "B": qty, "a": ask, "A": qty}
    return json.dumps({"stream": f"{name.lower()}@bookTicker", "data": data}).encode()


def around(price: str, spread: float = 0.0005) -> tuple[str, str]:
    return f"{float(price) * (1 - spread):.8f}", f"{float(price) * (1 + spread):.8f}"


def fair_lines(update_id: int = 1, start_ns: int = 10**18) -> list[bytes]:
    """One line for each market, a microsecond apart, in the `<ns> <frame>` form."""
    return [
        b"%d %b" % (start_ns + number * 1000, ticker(name, update_id, *around(FAIR[name])))
        for number, name in enumerate(NAMES)
    ]
