"""The one place that makes Redis keys: `apex:fund:{type}:{symbol}`."""

from __future__ import annotations

import enum

SYMBOL_BYTES_MAX = 128

_FORBIDDEN = frozenset(':{}*?[]\\"')


class KeyType(enum.StrEnum):
    """What a key holds. The first block lives on the ledger server, the second on the bus."""

    JOURNAL = "journal"
    SNAPSHOT = "snapshot"
    SNAPSHOT_PREVIOUS = "snapshot_previous"
    LEASE = "lease"
    ORDERS = "orders"
    POSITIONS = "positions"
    OUTCOMES = "outcomes"
    FILLS = "fills"
    RECONCILE = "reconcile"
    FLATTEN = "flatten"
    IDENTITY = "identity"
    INDEX = "index"

    SIGNALS = "signals"
    VERDICTS = "verdicts"
    COUNTERFACTUAL = "counterfactual"
    HEALTH = "health"
    TREE = "tree"
    ALERTS = "alerts"
    BOOK = "book"
    COMMANDS = "commands"


ALL = "all"
"""Symbol of a key that is not one instrument's or one actor's."""


def key(key_type: KeyType | str, symbol: str) -> str:
    """Return the key of a type and an instrument, an actor's name or `all`.

    A symbol may have any printable characters (venues list non-ASCII pairs and stocks with a space) but none that
    would split a key or match as a pattern. Raises ValueError.
    """
    checked = KeyType(key_type)
    if not symbol or len(symbol.encode()) > SYMBOL_BYTES_MAX:
        raise ValueError(f"key symbol {symbol!r} must have 1 to {SYMBOL_BYTES_MAX} bytes")
    if not symbol.isprintable() or symbol != symbol.strip() or not _FORBIDDEN.isdisjoint(symbol):
        raise ValueError(f"key symbol {symbol!r} has a character that a key cannot hold (space at an end, {_shown()})")
    return f"apex:fund:{checked.value}:{symbol}"


def _shown() -> str:
    return " ".join(sorted(_FORBIDDEN))
