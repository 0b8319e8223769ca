"""Last prices as a broker heard them, in a file of the run directory: for people, never for orders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

NAME = "last_prices.json"
BYTES_MAX = 1 << 16


class LastPrice(msgspec.Struct, frozen=True, gc=False):
    """Fixed8, and when it was last heard, by our clock."""

    px: int
    heard_ns: int


def write_last_prices(run_dir: Path, prices: Mapping[str, LastPrice]) -> None:
    """Write them whole, by replacing the file. Raises OSError."""
    draft = run_dir / f"{NAME}.{os.getpid()}"
    draft.write_bytes(msgspec.json.encode(prices))
    os.replace(draft, run_dir / NAME)


def read_last_prices(run_dir: Path) -> dict[str, LastPrice]:
    """Return what a broker last wrote; empty where none ever did, or it cannot be read."""
    try:
        with open(run_dir / NAME, "rb") as file:
            return msgspec.json.decode(file.read(BYTES_MAX), type=dict[str, LastPrice])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}
