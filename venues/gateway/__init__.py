"""A paper IB Gateway: the outside world, not the engine. docs/venues_gateway.md says how to use it."""

from __future__ import annotations

from venues.gateway.cli import main
from venues.gateway.server import serve
from venues.gateway.settings import GatewaySettings, Manners

__all__ = ["GatewaySettings", "Manners", "main", "serve"]
