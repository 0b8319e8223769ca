"""The terminal view: the tree, its restarts, the market, orders and positions, gate and halts, twice a second.

A process of its own, which only reads: it may die or be killed without anybody noticing but the person before it.
"""

from __future__ import annotations

import signal
import threading

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from actors.adapters.inspection import EngineAway
from actors.keys import KeyType
from config.schema import Settings
from supervisors.picture import Look, Rates, picture
from supervisors.run_files import NotRunning, read_engine_file
from supervisors.status import read_projection, read_status


def show(settings: Settings) -> int:
    """Draw on the terminal's other screen until told to stop (SIGTERM, SIGINT) or the engine's guardian ends.

    Raises NotRunning if no engine runs to begin with.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if not guardian_lives(settings):
        raise NotRunning(
            f"no engine runs in {settings.run.run_dir}. "
            "Remedy: start one with `make run`, or name its directory with --set run.run_dir=…"
        )
    rates, console = Rates(), Console()
    last: Look | None = None
    with Live(Text("the engine starts …"), console=console, auto_refresh=False, screen=True) as live:
        while True:
            last = _looked(settings, rates, last)
            if last is not None:
                live.update(picture(last, console.width, console.height), refresh=True)
            if stop.wait(settings.console.refresh_s) or not guardian_lives(settings):
                return 0


def guardian_lives(settings: Settings) -> bool:
    """Whether the run that wrote this directory's engine file goes on. Raises NotRunning where there is none."""
    guardian = read_engine_file(settings).guardian
    return guardian is not None and guardian.is_alive()


def look_at(settings: Settings, rates: Rates) -> Look:
    """One look at a running engine. Raises NotRunning, EngineAway."""
    status = read_status(settings)
    orders = tuple(read_projection(settings, KeyType.ORDERS).values())
    positions = tuple(read_projection(settings, KeyType.POSITIONS).values())
    return Look(status, orders, positions, rates.of(status))


def _looked(settings: Settings, rates: Rates, last: Look | None) -> Look | None:
    """A new look; while a server is away the last one goes on standing, and says so."""
    try:
        return look_at(settings, rates)
    except EngineAway as error:
        return None if last is None else msgspec.structs.replace(last, notice=f"not up to date: {error}")
