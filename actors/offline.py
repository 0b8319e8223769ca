"""The commands that need no engine: count the cycles of a listing, replay recordings. They do not print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import msgspec
from loguru import logger

from actors.adapters.recorded import is_json_array, read_whole
from actors.adapters.recorded_stream import recorded_slots, recordings
from actors.adapters.recorded_stretch import recorded_stretches
from kernels.book_image import NO_AGE_LIMIT
from kernels.cycles import CYCLES_MAX, CycleIndex, build_index
from kernels.evaluate import Decision
from kernels.exchange_info import ExchangeInfoError, Symbol, parse_exchange_info
from kernels.fees import FeeTable
from kernels.fixed8 import parse_price, parse_rate_bps
from kernels.replay import Replay, ReplayReport


class CyclesReport(msgspec.Struct, frozen=True):
    """What a listing holds; a fixed form. `triangles` over all, `directed_cycles` from the start asset where given."""

    symbols: int
    trading: int
    triangles: int
    directed_cycles: int


def cycles_command(
    path: Path, start: str | None = None, lengths: Sequence[int] = (3,), cycles_max: int = CYCLES_MAX
) -> CyclesReport:
    """Count symbols and cycles of an exchangeInfo file, gzip or not.

    Raises RecordedFileError, ExchangeInfoError (both name the file), kernels.cycles.UnknownStart and TooManyCycles.
    """
    index = load_index(path, start, lengths, cycles_max)
    trading = sum(symbol.trading for symbol in index.symbols)
    return CyclesReport(len(index.symbols), trading, index.triangles, len(index))


def replay_command(
    paths: Sequence[Path],
    exchange_info: Path,
    start: str | None = None,
    fee_bps: str | float = "0",
    *,
    fees: FeeTable | None = None,
    lengths: Sequence[int] = (3,),
    cycles_max: int = CYCLES_MAX,
    start_max: str | None = None,
    net_return_min: Fraction = Fraction(1),
    age_ms_max: int | None = None,
    on_opportunity: Callable[[Decision], None] | None = None,
    warn: Callable[[str], None] = logger.warning,
) -> ReplayReport:
    """Replay snapshots and streams over one book and return the report.

    Snapshots come first, in the order given, as of the first recorded time; then the lines of all streams, merged by
    receive time (within a file in their order). `fee_bps` a leg (without `fees`, which say more), and `start_max`, the
    most of the start asset put in, are decimal text. With `age_ms_max` a leg older than that is not used; without it
    any age is. `on_opportunity` gets each opportunity as it is met. A file that breaks off is replayed as far as it
    goes, and `warn` is told its name.

    Raises RecordedFileError for a file that cannot be opened, ExchangeInfoError, UnknownStart, TooManyCycles,
    Fixed8Error.
    """
    index = load_index(exchange_info, start, lengths, cycles_max)
    paths = recordings(paths)
    snapshots = [path for path in paths if is_json_array(path)]
    streams = [path for path in paths if path not in snapshots]
    replay = Replay(
        index,
        fees=FeeTable(parse_rate_bps(fee_bps)) if fees is None else fees,
        start_max=None if start_max is None else parse_price(start_max),
        net_return_min=net_return_min,
        age_ns_max=NO_AGE_LIMIT if age_ms_max is None else age_ms_max * 1_000_000,
        slots=recorded_slots(streams),
    )
    stretches = recorded_stretches(streams, warn)
    first = next(stretches, None)
    opened_ns = next((at for at in first.times.tolist() if at), 0) if first else 0
    opportunities: Iterator[Decision] = chain.from_iterable(
        chain(
            (replay.apply_snapshot(read_whole(path), opened_ns) for path in snapshots),
            (replay.apply_stretch(stretch) for stretch in chain([first] if first else [], stretches)),
        )
    )
    for opportunity in opportunities:
        if on_opportunity is not None:
            on_opportunity(opportunity)
    return replay.report()


def load_index(
    path: Path, start: str | None = None, lengths: Sequence[int] = (3,), cycles_max: int = CYCLES_MAX
) -> CycleIndex:
    """Return the cycle index of an exchangeInfo file, gzip or not. Raises as `cycles_command`."""
    return build_index(load_symbols(path), start, lengths, cycles_max)


def load_symbols(path: Path) -> tuple[Symbol, ...]:
    """Return what an exchangeInfo file lists. Raises RecordedFileError, ExchangeInfoError (both name the file)."""
    try:
        return tuple(parse_exchange_info(read_whole(path)))
    except ExchangeInfoError as error:
        raise ExchangeInfoError(f"{path}: {error}") from error
