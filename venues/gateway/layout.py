"""Read and write lists of fields described as data: names, version gates, defaults, conditional and repeated parts.

The text form of a layout is one token a field: `name`, `name=default`, `name>=158` (sent from that server version
on), `name<177` (sent below it); the default comes after the gate (`duration>=158=2147483647`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from venues.gateway.wire import WireError, to_int

Values = Mapping[str, str]
REPEAT_MAX = 200
"""More legs, tags or conditions than this in one order are refused: nothing real has them."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: sent from server version `since` on, and below `until`."""

    name: str
    default: str = ""
    since: int = 0
    until: int = 1_000_000


@dataclass(frozen=True, slots=True)
class When:
    """`body` is there only where `holds` is true of the values before it."""

    holds: Callable[[Values], bool]
    body: Layout


@dataclass(frozen=True, slots=True)
class Repeat:
    """A count field `name`, then that many times `body`; values are named `name.0.field`, `name.1.field` …"""

    name: str
    body: Layout


@dataclass(frozen=True, slots=True)
class Variants:
    """A count field `name`, then that many groups whose first field selects how many fields follow it."""

    name: str
    sizes: Mapping[str, int]
    tail: Layout
    """Fields after the last group, there only when the count is not 0."""


Layout = tuple["Field | When | Repeat | Variants", ...]
_TOKEN = re.compile(r"(?P<name>\w+)(?:>=(?P<since>\d+))?(?:<(?P<until>\d+))?(?:=(?P<default>.*))?")


def fields(text: str) -> tuple[Field, ...]:
    """Compile the text form."""
    return tuple(_field(token) for token in text.split())


def _field(token: str) -> Field:
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ValueError(f"not a field token: {token!r}")
    return Field(match["name"], match["default"] or "", int(match["since"] or 0), int(match["until"] or 1_000_000))


def gated(layout: Layout, version: int) -> Layout:
    """Return the part of the layout that this server version speaks."""
    return tuple(part for part in layout if not isinstance(part, Field) or part.since <= version < part.until)


@dataclass(slots=True)
class _Reader:
    source: Sequence[str]
    version: int
    values: dict[str, str]
    at: int = 0

    def take(self, name: str) -> str:
        if self.at >= len(self.source):
            raise WireError(f"message ends before field {name} (it has {len(self.source)} fields)")
        self.at += 1
        return self.source[self.at - 1]

    def count(self, name: str) -> int:
        text = self.take(name)
        number = to_int(text, name)
        if not 0 <= number <= REPEAT_MAX:
            raise WireError(f"{name}: a count of {number} is not between 0 and {REPEAT_MAX}")
        self.values[name] = str(number)
        return number

    def read(self, layout: Layout, prefix: str = "") -> None:
        for part in gated(layout, self.version):
            match part:
                case Field(name=name):
                    self.values[prefix + name] = self.take(prefix + name)
                case When(holds=holds, body=body):
                    if holds(self.values):
                        self.read(body, prefix)
                case Repeat(name=name, body=body):
                    for index in range(self.count(name)):
                        self.read(body, f"{name}.{index}.")
                case Variants():
                    self._read_variants(part)

    def _read_variants(self, part: Variants) -> None:
        count = self.count(part.name)
        for index in range(count):
            kind = self.take(f"{part.name}.{index}.type")
            if kind not in part.sizes:
                raise WireError(f"{part.name}.{index}: unknown type {kind!r}")
            self.values[f"{part.name}.{index}.type"] = kind
            for place in range(part.sizes[kind]):
                name = f"{part.name}.{index}.{place}"
                self.values[name] = self.take(name)
        if count:
            self.read(part.tail)


def read(layout: Layout, version: int, source: Sequence[str]) -> dict[str, str]:
    """Return name → text of a whole message. Raises WireError when fields are missing or left over."""
    reader = _Reader(source, version, {"serverVersion": str(version)})
    reader.read(layout)
    del reader.values["serverVersion"]
    if reader.at != len(source):
        rest = list(source[reader.at :])
        raise WireError(f"{len(rest)} field(s) left over after the last known one: {rest[:8]!r}")
    return reader.values


def write(layout: Layout, version: int, values: Values, prefix: str = "") -> list[str]:
    """Return the texts of a message; a name without a value is sent as its default."""
    out: list[str] = []
    for part in gated(layout, version):
        match part:
            case Field(name=name, default=default):
                out.append(values.get(prefix + name, default))
            case When(holds=holds, body=body):
                if holds(values):
                    out += write(body, version, values, prefix)
            case Repeat(name=name, body=body):
                count = int(values.get(name, "0"))
                out.append(str(count))
                for index in range(count):
                    out += write(body, version, values, f"{name}.{index}.")
            case Variants():
                out += _write_variants(part, version, values)
    return out


def _write_variants(part: Variants, version: int, values: Values) -> list[str]:
    count = int(values.get(part.name, "0"))
    out = [str(count)]
    for index in range(count):
        kind = values[f"{part.name}.{index}.type"]
        out.append(kind)
        out += [values[f"{part.name}.{index}.{place}"] for place in range(part.sizes[kind])]
    if count:
        out += write(part.tail, version, values)
    return out


def defaults(layout: Layout) -> dict[str, str]:
    """Return the default of every plain field, those inside conditional parts included."""
    found: dict[str, str] = {}
    for part in layout:
        match part:
            case Field(name=name, default=default):
                found[name] = default
            case When(body=body):
                found |= defaults(body)
            case Repeat() | Variants():
                pass
    return found
