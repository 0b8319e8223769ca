"""Capture files: exact, bounded, and whole up to where their writer died. And when a venue says to come back."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from msgspec import UNSET

from actors.adapters.capture_file import MAGIC_OLD, CaptureFile, previous, read_capture, read_slot
from actors.adapters.recorded_stream import recorded_lines, recordings
from actors.adapters.recorded_stretch import recorded_stretches
from actors.adapters.retry_after import BUSY_S, retry_after_s
from actors.offline import replay_command
from kernels.capture_records import BookState, SlotRecord, decode_book_state
from kernels.record_index import ASKED, EPOCH, FRAME, SLOT, SNAPSHOT, STATE
from tests.replay.listing import exchange_info, ticker

SLOT_OF_DEPTH = SlotRecord(("BTCUSDT",), 5)


def test_frames_come_back_byte_for_byte_with_their_times(tmp_path: Path) -> None:
    frames = [(10**18 + at, bytes([at % 256]) * (at % 40)) for at in range(500)]
    capture = CaptureFile(tmp_path / "spot.cap", 1 << 20)
    for received_ns, frame in frames:
        capture.write(received_ns, frame)
    capture.close()
    assert list(read_capture(tmp_path / "spot.cap")) == [(FRAME, *frame) for frame in frames]


def test_two_files_of_the_bound_are_kept_at_most_and_the_newest_frames_are_in_them(tmp_path: Path) -> None:
    path = tmp_path / "spot.cap"
    capture = CaptureFile(path, 1_000)
    for at in range(300):
        capture.write(at, b"x" * 30)
    capture.close()
    assert sorted(tmp_path.iterdir()) == sorted([path, previous(path)])
    assert all(one.stat().st_size <= 1_000 for one in tmp_path.iterdir())
    kept = [at for _, at, _ in [*read_capture(previous(path)), *read_capture(path)]]
    assert kept == list(range(300 - len(kept), 300))


def test_a_record_cut_off_at_the_end_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "spot.cap"
    capture = CaptureFile(path, 1 << 20)
    capture.write(1, b"whole")
    capture.write(2, b"not whole")
    capture.close()
    whole = path.read_bytes()
    for cut in range(1, 9 + 12):
        path.write_bytes(whole[:-cut])
        assert list(read_capture(path)) == [(FRAME, 1, b"whole")]


def test_what_is_no_frame_comes_back_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "depth.cap"
    capture = CaptureFile(path, 1 << 20, SLOT_OF_DEPTH)
    capture.mark_epoch(5)
    capture.write(6, b"frame")
    capture.note(ASKED, 7, b"BTCUSDT")
    capture.note(SNAPSHOT, 8, b"")
    capture.close()
    records = list(read_capture(path))
    assert [record[:2] for record in records] == [(SLOT, 0), (EPOCH, 5), (FRAME, 6), (ASKED, 7), (SNAPSHOT, 8)]
    assert read_slot(path) == SLOT_OF_DEPTH
    assert [line.kind.name for line in recorded_lines(path, print)] == ["SLOT", "EPOCH", "DEPTH", "ASKED", "SNAPSHOT"]
    (stretch,) = recorded_stretches([path], print)
    assert [stretch.line(at) for at in range(len(records))] == list(recorded_lines(path, print))


def test_a_file_that_begins_within_an_epoch_has_what_is_known_at_its_head_and_keeps_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "depth.cap"
    capture = CaptureFile(path, 2_000, SLOT_OF_DEPTH)
    books = [
        BookState("BTCUSDT", True, at, False, (1, 2), b"x" * 16 * size, b"", ()) for at, size in enumerate((9, 80))
    ]
    folded: list[bytes] = []
    capture.follow(lambda: [(len(folded), book) for book in books])
    frames = [b"%03d" % at + b"." * 200 for at in range(30)]
    for batch in capture.batches(frames):
        for frame in batch:
            capture.write(1, frame)
        folded += batch
    capture.close()
    assert all(one.stat().st_size <= 2_000 for one in tmp_path.iterdir())
    slot, state, first, *_ = read_capture(path)
    assert (slot.kind, state.kind, first.kind) == (SLOT, STATE, FRAME)
    assert decode_book_state(state.payload) == books[0]
    # Asked for once everything before the file's first frame was folded; the greater book is more than half of a file.
    assert state.received_ns == frames.index(first.payload)
    assert capture.states_left_out > 1
    kept = [one.payload for part in (previous(path), path) for one in read_capture(part) if one.kind == FRAME]
    assert kept == frames[-len(kept) :]


def test_a_capture_of_an_older_version_is_read_and_its_depth_comes_to_no_ladder(tmp_path: Path) -> None:
    def old(name: str, *frames: bytes) -> Path:
        records = b"".join(struct.pack("<qI", 10 + at, len(frame)) + frame for at, frame in enumerate(frames))
        path = tmp_path / name
        path.write_bytes(MAGIC_OLD + struct.pack("<qI", 1, 0xFFFF_FFFF) + records)
        return path

    depth = b'{"stream":"btcusdt@depth@100ms","data":{"s":"BTCUSDT","U":1,"u":2,"b":[["1.0","1.0"]],"a":[]}}'
    (tmp_path / "listing.json").write_bytes(exchange_info())
    paths = [old("spot.cap", ticker("BTCUSDT", 7, "3.0", "4.0")), old("depth.cap", depth, b'{"stream":"ethus', depth)]
    report = replay_command(paths, tmp_path / "listing.json")
    assert (report.frames, report.parsed, report.rejected) == (4, 1, {"depth_without_snapshot": 3})
    assert report.depth is UNSET
    assert [line.kind.name for line in recorded_lines(paths[0], print)] == ["EPOCH", "FRAME"]


def test_the_file_before_a_capture_is_no_recording_of_its_own_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "spot.cap"
    assert recordings([previous(path), path, path]) == [path]
    assert recordings([previous(path)]) == [previous(path)]


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing of ours")
    with pytest.raises(ValueError, match="no capture file"):
        list(read_capture(tmp_path / "x"))


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (429, "7", 7.0),
        (418, "120", 120.0),
        (418, "99999999999", 3 * 86_400.0),
        (429, None, BUSY_S[429]),
        (429, "soon", BUSY_S[429]),
        (429, "-1", BUSY_S[429]),
        (429, "٣", BUSY_S[429]),
        (414, "9999", 0.0),
        (503, "9", 0.0),
        (0, None, 0.0),
    ],
)
def test_the_venue_is_left_alone_for_as_long_as_it_says(status: int, header: str | None, seconds: float) -> None:
    assert retry_after_s(status, header) == seconds
