"""Capture files: exact, bounded, and whole up to where their writer died. And when a venue says to come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.adapters.capture_file import CaptureFile, previous, read_capture
from actors.adapters.retry_after import BUSY_S, retry_after_s
from kernels.record_index import FRAME


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
