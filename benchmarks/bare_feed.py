"""The plain form of feed and evaluator in one process: picows, orjson, four floats into a dict, and, where asked, the
cycles of each symbol that a read changed in Python floats. Nothing checked, nothing shared with anybody.

A program of its own, `python -m benchmarks.bare_feed JSON`: for each line on standard input it writes `BareCount`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time

import msgspec
import orjson
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.market import made_up_symbols
from kernels.cycles import BUY, build_index
from venues.exchange.universe import made_up_universe


class BareFeed(msgspec.Struct, frozen=True):
    """Where to connect. `cpu` -1: wherever the system puts it."""

    urls: tuple[str, ...]
    cpu: int = -1
    symbols: int = 0
    seed: int = 0
    """Of the universe whose cycles are looked at; 0 symbols: none are."""


class BareCount(msgspec.Struct, frozen=True):
    """Frames since the start, the best cycle met, and since the last line the ages at their decision in ns."""

    frames: int
    best: float
    ages_ns: list[int]


class Plain:
    """What all connections share."""

    def __init__(self, symbols: int, seed: int) -> None:
        self.frames, self.best = 0, 0.0
        self.ages_ns: list[int] = []
        self.tops: dict[str, tuple[float, float, float, float]] = {}
        self.cycles: dict[str, list[tuple[tuple[str, int], ...]]] = {}
        if symbols:
            listed = made_up_symbols(made_up_universe(symbols, seed))
            index = build_index(listed)
            for cycle in range(len(index)):
                legs = tuple((listed[row].name, side) for row, side in zip(*index.legs_of(cycle), strict=True))
                for name, _ in legs:
                    self.cycles.setdefault(name, []).append(legs)

    def decide(self, names: list[str]) -> None:
        """Take the cycles of these symbols."""
        tops = self.tops
        for name in names:
            for legs in self.cycles.get(name, ()):
                gross = 1.0
                for leg, side in legs:
                    top = tops.get(leg)
                    if top is None:
                        break
                    gross *= 1.0 / top[2] if side == BUY else top[0]
                else:
                    self.best = max(self.best, gross)


class _Listener(WSListener):
    def __init__(self, plain: Plain) -> None:
        self._plain = plain
        self._read: list[str] = []
        self._received_ns = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame; at the end of the read decide."""
        if frame.msg_type == WSMsgType.TEXT:
            plain = self._plain
            if plain.cycles and not self._read:
                self._received_ns = time.time_ns()
            data = orjson.loads(frame.get_payload_as_memoryview())["data"]
            plain.tops[data["s"]] = (float(data["b"]), float(data["B"]), float(data["a"]), float(data["A"]))
            plain.frames += 1
            if plain.cycles:
                self._read.append(data["s"])
                if frame.last_in_buffer:
                    plain.decide(self._read)
                    plain.ages_ns += [time.time_ns() - self._received_ns] * len(self._read)
                    self._read.clear()


async def _run(asked: BareFeed) -> None:
    plain = Plain(asked.symbols, asked.seed)
    for url in asked.urls:
        await ws_connect(lambda: _Listener(plain), url)
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        sys.stdout.buffer.write(msgspec.json.encode(BareCount(plain.frames, plain.best, plain.ages_ns)) + b"\n")
        plain.ages_ns = []
        sys.stdout.buffer.flush()


def main() -> None:
    """Run until standard input ends."""
    asked = msgspec.json.decode(sys.argv[1], type=BareFeed)
    if asked.cpu >= 0:
        os.sched_setaffinity(0, {asked.cpu})
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(asked))


if __name__ == "__main__":
    main()
