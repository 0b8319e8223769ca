"""From the settings to the driver of the spot exchange's orders."""

from __future__ import annotations

import os
import random
from pathlib import Path

from actors.adapters.assembly import BuildContext
from actors.adapters.clock import SystemClock
from actors.adapters.identity import IdentityFile
from actors.adapters.spot_driver import SpotDriver, SpotSettings
from actors.adapters.spot_rest import RestLimits


def spot_driver(context: BuildContext) -> SpotDriver:
    """Return the driver of `broker.spot`; the halt latch is read before every write."""
    exchange = context.settings.exchange
    identity = IdentityFile(Path(context.run_dir) / "identity.json")

    def halted() -> str:
        halt = identity.halt()
        return halt.reason if halt is not None else ""

    settings = SpotSettings(
        rest_url=exchange.rest_url,
        ws_url=exchange.ws_url,
        api_key_file=exchange.api_key_file,
        run_prefix=f"{context.run_id[:8]}.{os.getpid()}.{context.incarnation}",
        limits=RestLimits(
            weight_per_minute_max=exchange.weight_per_min_max,
            orders_per_10s_max=exchange.orders_per_10s_max,
            request_s_max=exchange.request_s_max,
            recv_window_ms=exchange.recv_window_ms,
        ),
    )
    return SpotDriver(settings, SystemClock(), halted, random.Random().random)
