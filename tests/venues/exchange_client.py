"""What a client of the paper exchange's account needs: signed requests, and a user stream that is kept whole.

It signs by itself, from the documentation, and imports nothing of the exchange.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from tests.venues.exchange_process import ExchangeProcess

PATIENCE_S = 30.0
Reply = tuple[int, dict[str, str], Any]


class SignedClient:
    """One account of one exchange process, whose key it reads from the file that exchange.json names."""

    def __init__(self, exchange: ExchangeProcess) -> None:
        self.exchange = exchange
        self.skew_ms = 0
        address = json.loads((exchange.state / "exchange.json").read_bytes())
        key = json.loads(Path(address["api_key_file"]).read_bytes())
        self.api_key, self.secret = key["api_key"], key["secret"]

    def signed_query(self, **params: object) -> str:
        """Parameters, stamped and signed; good for a minute unless the test stamps them itself."""
        stamp = {"recvWindow": 60_000, "timestamp": time.time_ns() // 10**6 + self.skew_ms}
        stamped = params if "timestamp" in params else {**stamp, **params}
        query = urllib.parse.urlencode(stamped)
        return f"{query}&signature={hmac.new(self.secret.encode(), query.encode(), hashlib.sha256).hexdigest()}"

    def send(
        self, method: str, path: str, query: str = "", body: str | None = None, api_key: str | None = None
    ) -> Reply:
        """Send what is given as it is; return status, headers, reply."""
        url = self.exchange.base_url + path + (f"?{query}" if query else "")
        data = body.encode() if body is not None else None
        request = urllib.request.Request(url, data=data, method=method)
        if api_key != "":
            request.add_header("X-MBX-APIKEY", api_key or self.api_key)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, dict(reply.headers), json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), json.loads(error.read() or b"null")

    def ask(self, method: str, path: str, **params: object) -> Reply:
        """Send a signed request."""
        return self.send(method, path, self.signed_query(**params))

    def good(self, method: str, path: str, **params: object) -> Any:
        """Send a signed request that must be answered 200; return the reply."""
        status, _, reply = self.ask(method, path, **params)
        assert status == 200, f"{method} {path} {params}: {status} {reply}"
        return reply

    def refused(self, method: str, path: str, **params: object) -> tuple[int, int, str]:
        """Send a signed request that must be refused; return status, code, message."""
        status, _, reply = self.ask(method, path, **params)
        assert status >= 400, reply
        return status, reply["code"], reply["msg"]

    def order(self, symbol: str, side: str, kind: str, **params: object) -> Any:
        """Place an order that must be taken; return the reply."""
        return self.good("POST", "/api/v3/order", symbol=symbol, side=side, type=kind, **params)

    def ioc(self, symbol: str, side: str, quantity: str, price: str, **params: object) -> Any:
        """Place an immediate-or-cancel limit order."""
        return self.order(symbol, side, "LIMIT", timeInForce="IOC", quantity=quantity, price=price, **params)

    def top(self, symbol: str) -> dict[str, Decimal]:
        """The standing top of a book."""
        row = self.exchange.get(f"/api/v3/ticker/bookTicker?symbol={urllib.parse.quote(symbol)}")
        return {name: Decimal(row[name]) for name in ("bidPrice", "bidQty", "askPrice", "askQty")}

    def balances(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Free and locked, by asset."""
        told = self.good("GET", "/api/v3/account")["balances"]
        return {one["asset"]: (Decimal(one["free"]), Decimal(one["locked"])) for one in told}

    def listen_key(self) -> str:
        """A listenKey, by POST."""
        status, _, reply = self.send("POST", "/api/v3/userDataStream", body="")
        assert status == 200, reply
        return str(reply["listenKey"])


class UserEvents:
    """A user stream over a real WebSocket; used in `async with`, on the loop's thread."""

    def __init__(self, client: SignedClient, path: str = "") -> None:
        self._client = client
        self._path = path
        self.seen: list[dict[str, Any]] = []

    async def __aenter__(self) -> UserEvents:
        path = self._path or "/ws/" + await asyncio.to_thread(self._client.listen_key)
        self._session = aiohttp.ClientSession()
        self.ws = await self._session.ws_connect(self._client.exchange.ws_url + path)
        # An upgrade is answered a moment before the stream is subscribed to; a reply proves that it is.
        await self.ws.send_str('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        while (await self.next()).get("id") != 1:
            pass
        self.seen.clear()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.ws.close()
        await self._session.close()

    async def next(self) -> dict[str, Any]:
        """The next event."""
        async with asyncio.timeout(PATIENCE_S):
            event: dict[str, Any] = json.loads((await self.ws.receive()).data)
        self.seen.append(event)
        return event

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event from here on of which the condition holds."""
        while not holds(event := await self.next()):
            pass
        return event

    def reports(self, field: str) -> list[Any]:
        """A field of every execution report so far."""
        return [event[field] for event in self.seen if event["e"] == "executionReport"]


def canonical(amount: Decimal) -> str:
    """An amount as a request writes it."""
    return f"{amount:.8f}"
