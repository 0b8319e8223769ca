"""Recorded streams and snapshots, read as they lie: each line `<receive time>[:] <frame>`, gzip or not."""

from __future__ import annotations

import gzip
import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

import msgspec

from venues.exchange.frames import Row
from venues.exchange.market import read_bytes

BOOK_TICKER_SUFFIX: Final = "@bookTicker"
DEPTH_REPLY_SUFFIX: Final = "@depth_reply"
_STREAM_HEAD: Final = b'{"stream":"'
_DATA_MARK: Final = b'","data":'
_DEPTH_REPLY_HEAD: Final = b'{"lastUpdateId":'
# `https://…/api/v3/depth?symbol=NKNUSDT&limit=1000 -> 1633998512.320639: {…}`
_DEPTH_QUESTION: Final = re.compile(rb"\S*/depth\?symbol=([^&\s]+)\S* -> ([\d.]+): (\{.*\})")


class RecordedFrame(NamedTuple):
    """A frame as received: its stream, the payload inside, and the combined form byte for byte.

    A REST depth reply that was recorded between the frames is one whose stream is `<symbol>@depth_reply`, which nobody
    is sent.
    """

    received_ns: int
    stream: str
    payload: bytes
    wrapped: bytes


@dataclass(slots=True)
class RecordingCounters:
    """Every line read is one of these."""

    frames: int = 0
    depth_replies: int = 0
    lines_not_frames: int = 0


class _BookTicker(msgspec.Struct):
    u: int
    s: str
    b: str
    B: str
    a: str
    A: str


class _SnapshotEntry(msgspec.Struct, rename="camel"):
    symbol: str
    bid_price: str
    bid_qty: str
    ask_price: str
    ask_qty: str


_decode_book_ticker: Final = msgspec.json.Decoder(_BookTicker).decode


def read_snapshots(paths: tuple[Path, ...]) -> Iterator[tuple[str, Row]]:
    """Yield the rows of those files that are bookTicker snapshots (a JSON array), with update ids from 1."""
    for path in paths:
        if _is_snapshot(path):
            entries = msgspec.json.decode(read_bytes(path), type=list[_SnapshotEntry])
            for update_id, entry in enumerate(entries, start=1):
                yield entry.symbol, Row(update_id, entry.bid_price, entry.bid_qty, entry.ask_price, entry.ask_qty)


def read_depth_replies(paths: tuple[Path, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield symbol and body of those files that hold one REST depth reply each, named `<SYMBOL>_….json[.gz]`."""
    for path in paths:
        if _is_depth_reply(path):
            yield path.name.partition("_")[0], read_bytes(path)


def read_frames(paths: tuple[Path, ...], counters: RecordingCounters) -> Iterator[RecordedFrame]:
    """Yield the frames of those files that are streams, merged by receive time. Holds a line a file in memory.

    Within a file the order of the lines is kept, whatever their times say.
    """
    streams = [_frames_of(path, counters) for path in paths if not _is_snapshot(path) and not _is_depth_reply(path)]
    yield from heapq.merge(*streams, key=lambda frame: frame.received_ns)


def row_of(payload: bytes) -> tuple[str, Row] | None:
    """Return symbol and row of a bookTicker payload; None for one that is malformed: it is played all the same."""
    try:
        ticker = _decode_book_ticker(payload)
    except msgspec.DecodeError:
        return None
    return ticker.s, Row(ticker.u, ticker.b, ticker.B, ticker.a, ticker.A)


def parse_line(line: bytes) -> RecordedFrame | None:
    """Return the frame of a recorded line; None for a line that holds no whole combined-stream frame."""
    stamp, _, wrapped = line.strip().partition(b" ")
    mark = wrapped.find(_DATA_MARK)
    received_ns = _stamp_ns(stamp)
    if not wrapped.startswith(_STREAM_HEAD) or mark < 0 or not wrapped.endswith(b"}}") or received_ns is None:
        return None
    stream = wrapped[len(_STREAM_HEAD) : mark].decode()
    return RecordedFrame(received_ns, stream, wrapped[mark + len(_DATA_MARK) : -1], wrapped)


def parse_depth_reply(line: bytes, symbol: str) -> RecordedFrame | None:
    """Return the REST depth reply that a recorded line holds, of the symbol it names or else of this one."""
    asked = _DEPTH_QUESTION.match(line)
    if asked is not None:
        name, stamp, body = asked.groups()
        symbol = name.decode()
    else:
        stamp, _, body = line.strip().partition(b" ")
    received_ns = _stamp_ns(stamp)
    if not symbol or received_ns is None or not (body.startswith(_DEPTH_REPLY_HEAD) and body.endswith(b"}")):
        return None
    return RecordedFrame(received_ns, symbol.lower() + DEPTH_REPLY_SUFFIX, body, b"")


def _stamp_ns(stamp: bytes) -> int | None:
    text = stamp.rstrip(b":").decode(errors="replace")
    try:
        return int(Decimal(text) * 10**9) if "." in text else int(text)
    except (InvalidOperation, ValueError):
        return None


def _frames_of(path: Path, counters: RecordingCounters) -> Iterator[RecordedFrame]:
    latest_ns = 0
    symbol = ""  # whose depth the file streams: a reply between the frames does not name its own
    with _open(path) as file:
        for line in file:
            frame = parse_line(line)
            if frame is None:
                frame = parse_depth_reply(line, symbol)
                if frame is None:
                    counters.lines_not_frames += 1
                    continue
                counters.depth_replies += 1
            else:
                counters.frames += 1
                if "@depth" in frame.stream:
                    symbol = frame.stream.partition("@")[0].upper()
            latest_ns = max(latest_ns, frame.received_ns)
            yield frame._replace(received_ns=latest_ns)


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as probe:
        packed = probe.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def _is_depth_reply(path: Path) -> bool:
    with _open(path) as file:
        return re.match(rb'\s*\{\s*"lastUpdateId"', file.read(64)) is not None


def _is_snapshot(path: Path) -> bool:
    with _open(path) as file:
        return file.read(1) == b"["
