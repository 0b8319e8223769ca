"""A paper spot exchange: a program of its own, outside the engine, that speaks the real forms.

It stands for the outside world: it goes on when the engine dies, keeps its own state, and knows which of the
opportunities it showed were true. Nothing here imports the engine.
"""

from __future__ import annotations

from venues.exchange.server import run, serve
from venues.exchange.settings import ExchangeSettings, SettingsError, add_arguments, settings_from

__all__ = ["ExchangeSettings", "SettingsError", "add_arguments", "run", "serve", "settings_from"]
