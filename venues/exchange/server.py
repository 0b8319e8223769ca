"""The program: one loopback port for REST and WebSocket, prices from one source, a clean end on SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import os
import signal
import socket
import sys
import time
from typing import Final

import msgspec
from aiohttp import web

from venues.exchange.depth import GeneratedBooks
from venues.exchange.desk import Desk
from venues.exchange.exchange import Exchange
from venues.exchange.generator import Generator
from venues.exchange.hub import GOING_AWAY
from venues.exchange.market import load_market
from venues.exchange.order_rest import OrderApi
from venues.exchange.recorded_depth import RecordedBooks
from venues.exchange.rest import RestApi
from venues.exchange.settings import ExchangeSettings, SettingsError, settings_from
from venues.exchange.sources import GeneratedSource, RecordedSource, opportunity_plan
from venues.exchange.state import OpportunityLedger, StateError, StateFolder
from venues.exchange.trading_settings import TradingSettingsError
from venues.exchange.universe import made_up_universe, universe_of
from venues.exchange.websocket import WebSocketFace

EXIT_OK: Final = 0
EXIT_UNAVAILABLE: Final = 69  # EX_UNAVAILABLE: the port or the state folder is taken
EXIT_CONFIG: Final = 78  # EX_CONFIG: a setting that cannot work

# A request for 1,024 streams must reach the handler that answers 414, and not fail in the parser as a 400.
_LINE_BYTES_MAX: Final = 1024 * 1024
# How long quotes are kept consistent after they were replaced, for a consumer that sees its connections askew.
_WINDOW_S: Final = 0.25
_KEEP_ALIVE_CHECK_S: Final = 1.0
_SHUTDOWN_S: Final = 0.3


class _Address(msgspec.Struct):
    pid: int
    port: int
    base_url: str
    ws_url: str
    started_ns: int
    api_key_file: str


def run(arguments: argparse.Namespace) -> int:
    """Serve what a command line says (see `add_arguments`); return the exit code. 78 for a setting that cannot work."""
    try:
        settings = settings_from(arguments)
    except (SettingsError, TradingSettingsError) as error:
        print(f"exchange: {error}", file=sys.stderr)
        return EXIT_CONFIG
    return serve(settings)


def serve(settings: ExchangeSettings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Call it in the main thread: it handles those signals.

    Returns 69 where port or state folder are taken, 78 where a file cannot be read, both told on stderr with a
    remedy. A failure inside raises: the process dies of it rather than go on wrongly.
    """
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        print(
            f"exchange: port {settings.port} on {settings.host} is taken or not allowed ({error.strerror}); "
            "stop what listens there, or give another --port (0 picks a free one)",
            file=sys.stderr,
        )
        return EXIT_UNAVAILABLE
    try:
        state = StateFolder(settings.state_dir)
    except StateError as error:
        listener.close()
        print(f"exchange: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    try:
        asyncio.run(_run(settings, state, listener))
    except StateError as error:
        print(f"exchange: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except msgspec.DecodeError as error:
        print(f"exchange: a given file is not what it should be: {error}", file=sys.stderr)
        return EXIT_CONFIG
    finally:
        state.close()
        listener.close()
    return EXIT_OK


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


async def _run(settings: ExchangeSettings, state: StateFolder, listener: socket.socket) -> None:
    ledger = OpportunityLedger(settings.state_dir, state.epoch, time.time_ns())
    exchange, source = _build(settings, state, ledger)
    # What was built stands for good: the collector need not look through it again and again.
    gc.freeze()
    desk = Desk(exchange)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api = RestApi(exchange, source if isinstance(source, RecordedSource) else None, desk.apply)
    orders = OrderApi(desk, api.weight, api.refused, api.refusal_response)
    application = web.Application()
    application.add_routes([*api.routes(), *orders.routes(), *WebSocketFace(exchange, api.refused).routes()])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S, max_line_size=_LINE_BYTES_MAX)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    _announce(settings, state, listener, desk)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(source.run()), tasks.create_task(_keep_alive(exchange, desk))]
            await stop.wait()
            for task in running:
                task.cancel()
    finally:
        for connection in list(exchange.hub.connections.values()):
            exchange.hub.part(connection, GOING_AWAY, "exchange stops")
        await runner.cleanup()
        ledger.close()
        desk.close()


def _build(
    settings: ExchangeSettings, state: StateFolder, ledger: OpportunityLedger
) -> tuple[Exchange, GeneratedSource | RecordedSource]:
    market = load_market(settings.exchange_info) if settings.exchange_info else None
    if settings.record:
        assert market is not None, "settings demand an exchangeInfo with a recording"
        books = RecordedBooks()
        exchange = Exchange(settings, market, state, ledger, books)
        return exchange, RecordedSource(exchange, books)
    seed = settings.seed
    universe = universe_of(market, seed) if market else made_up_universe(settings.symbols, seed)
    window_steps = round(_WINDOW_S * (settings.rate_per_s or 2_000.0))
    generator = Generator(universe, opportunity_plan(settings), seed, state.epoch, window_steps)
    exchange = Exchange(settings, universe.market, state, ledger, GeneratedBooks(universe, seed))
    return exchange, GeneratedSource(exchange, generator)


def _announce(settings: ExchangeSettings, state: StateFolder, listener: socket.socket, desk: Desk) -> None:
    port = int(listener.getsockname()[1])
    authority = f"[{settings.host}]:{port}" if ":" in settings.host else f"{settings.host}:{port}"
    key_file = str(desk.key_path.resolve())
    address = _Address(os.getpid(), port, f"http://{authority}", f"ws://{authority}", time.time_ns(), key_file)
    state.write_address(msgspec.json.encode(address))
    print(f"exchange ready {address.base_url} pid {address.pid} state {state.folder}", flush=True)


async def _keep_alive(exchange: Exchange, desk: Desk) -> None:
    pause_s = min(_KEEP_ALIVE_CHECK_S, exchange.settings.ping_interval_s / 4, exchange.settings.pong_timeout_s / 4)
    while True:
        await asyncio.sleep(pause_s)
        exchange.hub.keep_alive(exchange.monotonic_s())
        desk.stream.expire()
