"""Replay in stretches: the same entries in the same order, and the same decisions, as line by line."""

from __future__ import annotations

import gzip
import heapq
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import actors.adapters.recorded_stretch as recorded_stretch
from actors.adapters.capture_file import CaptureFile, previous
from actors.adapters.recorded_stream import recorded_lines
from actors.adapters.recorded_stretch import recorded_stretches
from kernels.cycles import build_index
from kernels.evaluate import Decision
from kernels.exchange_info import parse_exchange_info
from kernels.fees import FeeTable
from kernels.frame_scan import TEXT_PADDING
from kernels.record_index import FRAME, index_lines
from kernels.recorded_line import LineKind, RecordedLine, parse_line
from kernels.replay import Replay
from tests.replay.listing import FAIR, NAMES, around, exchange_info, ticker

INDEX = build_index(parse_exchange_info(exchange_info()), "USDT")
BEGAN_NS = 1_700_000_000_000_000_000
ODD_LINES = (
    b"", b"\r", b"wss://host/stream?streams=a <-> 1633998511.159679", b"configuration: x", b"nonsense", b"{", b"{}",
    b"1 {}", b"-5 {}", b"1700000000000000000", b"1700000000000000000 ", b"9999999999999999999 {}",
    b"https://host/x -> 1633998511.132921: {}", b"1700000000.5: {}", b"1700000000.123456789123: {}", b"1700000000.: {}",
    b"1700000000.5 {}", b"1700000000000000001:{}", b"1700000000000000002  {}", b"1700000000000000003 {} ",
    b"\xff\xfe", b'{"a://b"', b"1633998512.0633569: [1]",
)  # fmt: skip


def compact(name: str, update_id: int, bid: str, ask: str) -> bytes:
    return ticker(name, update_id, bid, ask).replace(b'": ', b'":').replace(b', "', b',"')


def frames_of(chance: random.Random, count: int) -> list[bytes]:
    """Good frames, some of which open an opportunity, among stale, bad and cut off ones."""
    frames = []
    for number in range(1, count + 1):
        name = chance.choice(NAMES)
        bid, ask = around(str(float(FAIR[name]) * chance.choice([1, 1, 1, 0.99, 1.01])))
        frame = compact(name, max(1, number - chance.choice([0, 0, 0, 50])), bid, ask)
        dice = chance.random()
        if dice < 0.05:
            frame = frame[: chance.randrange(len(frame))]
        elif dice < 0.10:
            frame = ticker(name, number, bid, ask)
        elif dice < 0.12:
            frame = compact(name, number, ask, bid)
        frames.append(frame)
    return frames


def lines_file(path: Path, chance: random.Random, count: int) -> Path:
    now_ns = BEGAN_NS + chance.randrange(1_000)
    lines = []
    for frame in frames_of(chance, count):
        now_ns += chance.choice([0, 0, 1, 1_000, -500, 10**6])
        seconds = b"%d.%09d: %b" % (now_ns // 10**9, now_ns % 10**9, frame)
        lines.append(chance.choice([b"%d %b" % (now_ns, frame)] * 4 + [seconds, chance.choice(ODD_LINES)]))
    content = b"\n".join(lines) + chance.choice([b"", b"\n"])
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def capture_file(path: Path, chance: random.Random, count: int) -> Path:
    capture = CaptureFile(path, chance.choice([8_000, 1 << 20]))
    now_ns = BEGAN_NS
    for frame in frames_of(chance, count):
        now_ns += chance.choice([0, 1, 1_000, 10**6])
        capture.write(now_ns, frame)
        if chance.random() < 0.02:
            capture.mark_epoch(now_ns)
    capture.close()
    if chance.random() < 0.5:
        path.write_bytes(path.read_bytes()[:-7])
    return path


def line_by_line(paths: Sequence[Path], replay: Replay, warn: Callable[[str], None]) -> list[Decision]:
    merged = heapq.merge(*(recorded_lines(path, warn) for path in paths), key=lambda line: line.received_ns)
    return [decision for line in merged for decision in replay.apply_line(line)]


def new_replay() -> Replay:
    return Replay(INDEX, fees=FeeTable(10_000), age_ns_max=50_000_000)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_stretch, "CHUNK_BYTES", 700)
    monkeypatch.setattr(recorded_stretch, "ENTRIES_MAX", 7)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("small", [False, True])
def test_stretches_decide_what_line_by_line_decides(
    tmp_path: Path, seed: int, small: bool, request: pytest.FixtureRequest
) -> None:
    if small:
        request.getfixturevalue("small_pieces")
    print("seed", seed)
    chance = random.Random(seed)
    paths = [
        lines_file(tmp_path / "a.lines", chance, 150),
        lines_file(tmp_path / "b.gz", chance, 150),
        capture_file(tmp_path / "c.cap", chance, 150),
    ][: 1 + seed % 3]
    plain, stretched = new_replay(), new_replay()
    expected = line_by_line(paths, plain, lambda _: None)
    found = [one for stretch in recorded_stretches(paths, lambda _: None) for one in stretched.apply_stretch(stretch)]
    assert expected, "something to find"
    assert found == expected
    assert stretched.report() == plain.report()
    assert (stretched.notes, stretched.evaluation_counters) == (plain.notes, plain.evaluation_counters)


@pytest.mark.usefixtures("small_pieces")
def test_entries_come_in_the_order_of_the_merged_lines_ties_too(tmp_path: Path) -> None:
    chance = random.Random(3)
    paths = []
    for name in "abc":
        path = tmp_path / name
        # Many of one time, over several pieces, in every file.
        times = sorted(BEGAN_NS + chance.choice([0, 0, 0, 5, 9]) for _ in range(60))
        path.write_bytes(b"".join(b'%d {"%b": %d}\n' % (at, name.encode(), place) for place, at in enumerate(times)))
        paths.append(path)
    merged = heapq.merge(*(recorded_lines(path, print) for path in paths), key=lambda line: line.received_ns)
    assert entries(paths) == list(merged)


def entries(paths: list[Path]) -> list[RecordedLine]:
    return [stretch.line(entry) for stretch in recorded_stretches(paths, print) for entry in range(len(stretch.times))]


def test_the_file_before_a_capture_comes_first(tmp_path: Path) -> None:
    path = capture_file(tmp_path / "c.cap", random.Random(11), 200)
    assert previous(path).exists() or len(entries([path])) == len(list(recorded_lines(path, print)))
    assert entries([path]) == list(recorded_lines(path, print))


def test_a_damaged_gzip_is_read_as_far_as_it_goes_and_named(tmp_path: Path) -> None:
    path = lines_file(tmp_path / "b.gz", random.Random(5), 3_000)
    path.write_bytes(path.read_bytes()[:-3_000])
    said: list[str] = []
    found = [
        stretch.line(at) for stretch in recorded_stretches([path], said.append) for at in range(len(stretch.times))
    ]
    assert found == list(recorded_lines(path, lambda _: None))
    assert len(found) > 100
    assert len(said) == 1
    assert "b.gz" in said[0]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    said: list[str] = []
    assert list(recorded_stretches([tmp_path / "absent"], said.append)) == []
    assert "absent" in said[0]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(ODD_LINES),
            st.binary(max_size=30).filter(lambda line: b"\n" not in line),
            st.builds(lambda at, body: b"%d %b" % (at, body), st.integers(0, 10**20), st.sampled_from([b"{}", b"{ }"])),
            st.from_regex(rb"\A[0-9]{9,11}\.[0-9]{0,12}:? ?\{.{0,4}\}\Z").filter(lambda line: b"\n" not in line),
        ),
        max_size=12,
    )
)
def test_lines_are_taken_apart_as_the_plain_rule_does(lines: list[bytes]) -> None:
    content = b"".join(line + b"\n" for line in lines)
    text = np.frombuffer(content + bytes(TEXT_PADDING), dtype=np.uint8).copy()
    times, starts, lengths = (np.zeros(len(lines) + 1, dtype=np.int64) for _ in range(3))
    kinds = np.zeros(len(lines) + 1, dtype=np.uint8)
    assert index_lines(text, len(content), times, starts, lengths, kinds) == len(lines)
    for entry, line in enumerate(lines):
        found = content[starts[entry] : starts[entry] + lengths[entry]]
        if kinds[entry] == FRAME:
            assert parse_line(line) == RecordedLine(LineKind.FRAME, int(times[entry]), found)
        else:
            assert found == line
