"""Looking at the market from outside: one symbol's row, one cycle's arithmetic. Reads only, and takes nothing for live
that the evaluator would not.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import msgspec

from actors.adapters.image_file import MappedImage, find_image
from actors.adapters.market_wiring import fees_of, start_max_of
from actors.adapters.recorded import RecordedFileError, read_whole
from actors.offline import load_symbols
from config.schema import Settings
from kernels.book_image import NO_FEED, BookImage, FeedHeader, FeedWriter, Row, RowStatus, Verdict, format_image, layout
from kernels.cycles import BUY, SELL, SIDE_NAMES, index_one
from kernels.evaluate import Decision
from kernels.evaluator import Evaluator
from kernels.exchange_info import Symbol
from kernels.fixed8 import format_fixed8
from kernels.fold import FeedFold
from kernels.frames import SymbolTable
from supervisors.run_files import NotRunning, read_engine_file

LEGS_MIN, LEGS_MAX = 3, 4
STEP_BACK_NS_MAX = 5_000_000_000
_MS_NS = 1_000_000
_NO_ROW = Row(0, 0, 0, 0, 0, 0, 0, 0)
_BPS = 10_000


class UnknownSymbol(LookupError):
    """The listing in use has no such symbol; the text names near ones."""


class BadCycle(ValueError):
    """What was given is no cycle; the text names the leg, what is wrong with it and what would be right."""

    exit_code = 64


class Level(msgspec.Struct, frozen=True):
    """A price and what stands at it."""

    px: str
    qty: str


class LadderLook(msgspec.Struct, frozen=True):
    """A symbol's book of depth as it stands; not to be walked unless `state` is `live`."""

    state: str
    update_id: int
    age_ms: float
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class ConnectionLook(msgspec.Struct, frozen=True):
    """The connection that owns a row. `beat_ms`: since its header beat, None before it ever did."""

    slot: str
    role: str
    state: str
    epoch: int
    beat_ms: float | None
    lag_ms: float


class BookLook(msgspec.Struct, frozen=True):
    """One symbol's row now. `state`: `live`, or why it does not count; prices and quantities as decimals."""

    symbol: str
    base: str
    quote: str
    state: str
    why: str
    bid: str
    bid_qty: str
    ask: str
    ask_qty: str
    quantity_capped: bool
    update_id: int
    sequence: int
    epoch: int
    age_ms: float | None
    age_ms_max: int
    connection: ConnectionLook | None
    twin: ConnectionLook | None
    ladder: LadderLook | None


class Market(NamedTuple):
    """Where rows are read: the image of a run, or one made of a file's rows."""

    symbols: tuple[Symbol, ...]
    image: BookImage
    now_ns: int


# ---- one symbol


def look_at_symbol(settings: Settings, name: str, mapped: MappedImage) -> BookLook:
    """Read one symbol's row as it stands. Raises UnknownSymbol."""
    record, image, exchange = mapped.record, mapped.image, settings.exchange
    row_number = _row_of(name, record.symbols)
    symbol, now_ns = record.symbols[row_number], _now_ns(image)
    stale_ns = exchange.header_stale_ms * _MS_NS
    verdict, row = image.read_live_row(row_number, now_ns, exchange.age_ms_max * _MS_NS, stale_ns)
    found = row or _NO_ROW
    owner = int(image.row_feed[row_number])
    connection = None if owner == NO_FEED else _connection(mapped, owner, now_ns, stale_ns)
    twin = NO_FEED if owner == NO_FEED else image.twin(owner)
    return BookLook(
        symbol=symbol.name,
        base=symbol.base,
        quote=symbol.quote,
        state=_state(verdict, found),
        why=_why(verdict, found, connection),
        bid=format_fixed8(found.bid_px),
        bid_qty=format_fixed8(found.bid_qty),
        ask=format_fixed8(found.ask_px),
        ask_qty=format_fixed8(found.ask_qty),
        quantity_capped=found.quantity_capped,
        update_id=found.venue_update_id,
        sequence=found.sequence,
        epoch=found.epoch,
        age_ms=_ms(max(now_ns - found.received_ns, 0)) if found.received_ns else None,
        age_ms_max=exchange.age_ms_max,
        connection=connection,
        twin=None if twin == NO_FEED else _connection(mapped, twin, now_ns, stale_ns),
        ladder=_ladder(mapped, row_number, now_ns, stale_ns),
    )


def open_image_of(settings: Settings) -> MappedImage:
    """Map the run's image, read-only. Raises NotRunning, ImageError."""
    read_engine_file(settings)
    mapped = find_image(Path(settings.run.run_dir), writable=False)
    if mapped is None:
        raise NotRunning(
            f"there is no book image in {settings.run.run_dir}: the engine ended, or its book actor is just starting. "
            "Remedy: start it with `make run`, or try again in a moment"
        )
    return mapped


def _now_ns(image: BookImage) -> int:
    """Return the engine's time: its clocks hold still where the system's steps back, until that has caught up."""
    now_ns = time.time_ns()
    beats = [image.read_header(feed).live_ns for feed in range(image.layout.n_feeds)]
    return max([now_ns, *(ns for ns in beats if ns - now_ns < STEP_BACK_NS_MAX)])


def _row_of(name: str, symbols: Sequence[Symbol]) -> int:
    names = [symbol.name for symbol in symbols]
    if name in names:
        return names.index(name)
    near = [*([name.upper()] if name.upper() in names else []), *difflib.get_close_matches(name.upper(), names, 3)]
    hint = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "`run.py status` says what is listed"
    raise UnknownSymbol(f"symbol {name!r} is not among the {len(names)} that are listed; {hint}")


def _state(verdict: Verdict, row: Row) -> str:
    return row.status.name.lower() if verdict is Verdict.INVALID else verdict.name.lower()


def _why(verdict: Verdict, row: Row, connection: ConnectionLook | None) -> str:
    match verdict:
        case Verdict.LIVE:
            return ""
        case Verdict.AGED:
            return "its last frame is older than exchange.age_ms_max"
        case Verdict.BUSY:
            return "a writer is within a write, or died there"
        case Verdict.FEED_DEAD:
            if connection is None:
                return "no connection owns it"
            if connection.state == "live" and connection.epoch != row.epoch:
                return "no frame has come since its connection was made"
            return f"its connection is {connection.state}"
        case Verdict.INVALID:
            return _INVALID_WHY.get(row.status, row.status.name.lower())


_INVALID_WHY = {
    RowStatus.NEVER_SEEN: "no frame of it has come yet",
    RowStatus.PARSE_FAILURE: "its last frame could not be parsed",
    RowStatus.CROSSED: "its last frame had a bid at or above the ask",
    RowStatus.ONE_SIDED: "its last frame had no price or no quantity on a side",
    RowStatus.GAP: "frames are missing: it waits for a new beginning",
    RowStatus.HALTED: "the venue halted it",
}


def _connection(mapped: MappedImage, slot: int, now_ns: int, stale_ns: int) -> ConnectionLook:
    header, named = mapped.image.read_header(slot), mapped.record.feeds[slot]
    return ConnectionLook(
        slot=named.name,
        role=named.role,
        state=_connection_state(header, now_ns, stale_ns),
        epoch=header.epoch,
        beat_ms=_ms(now_ns - header.live_ns) if header.live_ns else None,
        lag_ms=_ms(header.lag_ns),
    )


def _connection_state(header: FeedHeader, now_ns: int, stale_ns: int) -> str:
    if not header.epoch:
        return "never up"
    if not header.up:
        return "down"
    if header.held_down_epoch >= header.epoch:
        return "held down"
    return "live" if abs(now_ns - header.live_ns) <= stale_ns else "stale"


def _ladder(mapped: MappedImage, row: int, now_ns: int, stale_ns: int) -> LadderLook | None:
    verdict, ladder = mapped.image.read_live_ladder(row, now_ns, liveness_ns_max=stale_ns)
    if ladder is None:
        return LadderLook("busy", 0, 0.0, (), ()) if verdict is Verdict.BUSY else None
    state = ladder.status.name.lower() if verdict is Verdict.INVALID else verdict.name.lower()
    sides = [
        tuple(Level(format_fixed8(px), format_fixed8(qty)) for px, qty in side.tolist())
        for side in (ladder.bids, ladder.asks)
    ]
    return LadderLook(state, ladder.venue_update_id, _ms(max(now_ns - ladder.received_ns, 0)), sides[0], sides[1])


def _ms(ns: int) -> float:
    return round(ns / _MS_NS, 3)


# ---- one cycle


def market_of_image(mapped: MappedImage) -> Market:
    """Return the rows of a run's image, as they stand now."""
    return Market(mapped.record.symbols, mapped.image, _now_ns(mapped.image))


def market_of_files(exchange_info: Path, rows: Path) -> Market:
    """Return the rows of a bookTicker snapshot as if they had come just now. Raises RecordedFileError,
    ExchangeInfoError.
    """
    symbols, now_ns = load_symbols(exchange_info), time.time_ns()
    image = format_image(bytearray(layout(len(symbols), 1, 2).n_bytes), [0] * len(symbols), 1, 2)
    writer = FeedWriter(image, 0, 1)
    writer.beat(now_ns)
    fold = FeedFold(writer, SymbolTable(symbols))
    entries = fold.snapshot_entries(read_whole(rows))
    if entries is None:
        raise RecordedFileError(f"{rows}: no JSON array; give a reply of GET /api/v3/ticker/bookTicker for all symbols")
    for entry in entries:
        fold.apply_entry(entry, now_ns)
    return Market(symbols, image, now_ns)


def decide_cycle(settings: Settings, text: str, market: Market) -> Decision:
    """Evaluate the cycle that `text` names, as `SYMBOL:SIDE,SYMBOL:SIDE,…`, as the engine's evaluator would now.

    Raises BadCycle, UnknownSymbol.
    """
    legs = [_leg(number, part, market.symbols) for number, part in enumerate(_parts(text), start=1)]
    rows, sides = [row for row, _ in legs], [side for _, side in legs]
    symbols = [market.symbols[row] for row in rows]
    check_closes(symbols, sides)
    exchange, start = settings.exchange, spent_asset(symbols[0], sides[0])
    limits = start_max_of(exchange)
    evaluator = Evaluator(
        index_one(market.symbols, rows, sides, start),
        market.image,
        fees=fees_of(exchange),
        start_max=limits if isinstance(limits, int | None) else limits.get(start),
        net_return_min=1 + Fraction(str(exchange.net_return_bps_min)) / _BPS,
        age_ns_max=exchange.age_ms_max * _MS_NS,
        liveness_ns_max=exchange.header_stale_ms * _MS_NS,
    )
    return evaluator.decide(0, market.now_ns)


def spent_asset(symbol: Symbol, side: int) -> str:
    """Return the asset that a leg gives away."""
    return symbol.quote if side == BUY else symbol.base


def received_asset(symbol: Symbol, side: int) -> str:
    """Return the asset that a leg gets."""
    return symbol.base if side == BUY else symbol.quote


def check_closes(symbols: Sequence[Symbol], sides: Sequence[int]) -> None:
    """Raise BadCycle, with what would be right, unless each leg spends what the one before it got, and the first what
    the last got.
    """
    count = len(symbols)
    for number in range(count):
        has = received_asset(symbols[number], sides[number])
        after, side = symbols[(number + 1) % count], sides[(number + 1) % count]
        if spent_asset(after, side) == has:
            continue
        which = f"leg {number + 2}" if number + 1 < count else "leg 1, where the cycle closes,"
        text = f"leg {number + 1} ({_named(symbols[number], sides[number])}) leaves {has}, but {which} "
        text += f"({_named(after, side)}) spends {spent_asset(after, side)}"
        other = SELL if side == BUY else BUY
        if spent_asset(after, other) == has:
            raise BadCycle(f"{text}; {_named(after, other)} would spend {has}")
        raise BadCycle(f"{text}; right would be a leg that spends {has}: BUY a …{has} market, or SELL a {has}… one")


def _named(symbol: Symbol, side: int) -> str:
    return f"{symbol.name}:{SIDE_NAMES[side]}"


def _parts(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not LEGS_MIN <= len(parts) <= LEGS_MAX:
        raise BadCycle(
            f"{text!r} is of {len(parts)}; a cycle has {LEGS_MIN} or {LEGS_MAX} legs, "
            "for instance BTCUSDT:BUY,ETHBTC:BUY,ETHUSDT:SELL"
        )
    return parts


def _leg(number: int, text: str, symbols: Sequence[Symbol]) -> tuple[int, int]:
    name, colon, word = text.partition(":")
    if not colon or not name:
        raise BadCycle(f"leg {number} is {text!r}; right would be SYMBOL:SIDE, for instance BTCUSDT:BUY")
    if word not in SIDE_NAMES:
        near = f", {name}:{word.upper()} here" if word.upper() in SIDE_NAMES else ""
        raise BadCycle(f"leg {number} ({text}): the side is {word!r}; right would be BUY or SELL{near}")
    return _row_of(name, symbols), SIDE_NAMES.index(word)
