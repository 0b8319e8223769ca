"""An immutable map that changes by one entry in the time of a small one, whatever it holds.

A large dictionary under a small one of recent changes: a change copies the small one alone, and every `RECENT_MAX`
changes the two become one. So a change costs O(RECENT_MAX + n / RECENT_MAX) instead of O(n), look-ups stay those of
dictionaries, and every older map stays what it was, which a reducer's states need.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TypeVar, cast, overload

V = TypeVar("V")
D = TypeVar("D")

RECENT_MAX = 96
"""Entries of the small dictionary; for 2,000 to 10,000 in the large one about where both halves of the cost meet."""


class _Gone:
    """In the small dictionary: this key of the large one is deleted."""


_GONE = _Gone()


class LayeredMap(Mapping[str, V]):
    """As a dictionary is: insertion order, a replaced entry keeps its place, a deleted and re-added one goes last.

    Values are never None. Equal to any mapping of the same entries. Whole iterations merge the layers first and keep
    the result (O(n) once); `oldest` does not.
    """

    __slots__ = ("_base", "_len", "_recent")

    def __init__(self, entries: Mapping[str, V]) -> None:
        """Begin with a copy of `entries`."""
        self._base: dict[str, V] = dict(entries)
        self._recent: dict[str, V | _Gone] = {}
        self._len = len(self._base)

    @classmethod
    def of(cls, entries: Mapping[str, V]) -> LayeredMap[V]:
        """Return `entries` itself where it is one already."""
        return entries if isinstance(entries, LayeredMap) else cls(entries)

    # ---- changes

    def put(self, key: str, value: V) -> LayeredMap[V]:
        """Return a map with this entry added or replaced."""
        if self._recent.get(key) is _GONE:  # its old place is not where it belongs now
            self._merge()
        is_new = key not in self
        return self._with(key, value, self._len + is_new)

    def drop(self, key: str) -> LayeredMap[V]:
        """Return a map without this entry. Raises KeyError."""
        if key not in self:
            raise KeyError(key)
        if key in self._base:
            return self._with(key, _GONE, self._len - 1)
        recent = dict(self._recent)
        del recent[key]
        return self._made(self._base, recent, self._len - 1)

    def _with(self, key: str, value: V | _Gone, length: int) -> LayeredMap[V]:
        if len(self._recent) >= RECENT_MAX:
            self._merge()
        return self._made(self._base, {**self._recent, key: value}, length)

    @classmethod
    def _made(cls, base: dict[str, V], recent: dict[str, V | _Gone], length: int) -> LayeredMap[V]:
        made = cls.__new__(cls)
        made._base, made._recent, made._len = base, recent, length
        return made

    def _merge(self) -> dict[str, V]:
        """Make the layers one, in a new dictionary: the old one may be another map's base too."""
        if self._recent:
            base = dict(self._base)
            for key, value in self._recent.items():
                if isinstance(value, _Gone):
                    del base[key]
                else:
                    base[key] = value
            self._base, self._recent = base, {}
        return self._base

    # ---- looks

    @overload
    def get(self, key: str, /) -> V | None: ...
    @overload
    def get(self, key: str, /, default: V | D) -> V | D: ...
    def get(self, key: str, /, default: object = None) -> object:
        """Return the entry, or the default."""
        found = self._recent.get(key)
        if found is None:
            return self._base.get(key, cast("V", default))
        return default if found is _GONE else found

    def __getitem__(self, key: str) -> V:
        found = self._recent.get(key)
        if found is None:
            return self._base[key]
        if isinstance(found, _Gone):
            raise KeyError(key)
        return found

    def __contains__(self, key: object) -> bool:
        found = self._recent.get(key)  # type: ignore[call-overload]
        return key in self._base if found is None else found is not _GONE

    def __len__(self) -> int:
        return self._len

    def oldest(self) -> Iterator[tuple[str, V]]:
        """The entries in order, without merging: for who stops early."""
        recent, base = self._recent, self._base
        for key, value in base.items():
            found = recent.get(key)
            if found is None:
                yield key, value
            elif not isinstance(found, _Gone):
                yield key, found
        for key, late in recent.items():
            if key not in base and not isinstance(late, _Gone):
                yield key, late

    def __iter__(self) -> Iterator[str]:
        return iter(self._merge())

    def keys(self) -> KeysView[str]:
        """Of the merged dictionary."""
        return self._merge().keys()

    def values(self) -> ValuesView[V]:
        """Of the merged dictionary."""
        return self._merge().values()

    def items(self) -> ItemsView[str, V]:
        """Of the merged dictionary."""
        return self._merge().items()

    def as_dict(self) -> dict[str, V]:
        """A dictionary of the same entries, the caller's own."""
        return dict(self._merge())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LayeredMap):
            return self._merge() == other._merge()
        return self._merge() == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"LayeredMap({self._merge()!r})"
