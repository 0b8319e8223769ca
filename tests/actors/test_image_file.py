"""The image's file: made once, kept while it fits, replaced as a whole, never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.adapters import image_file
from actors.adapters.image_file import (
    RECORD_NAME,
    FeedSlot,
    MappedImage,
    find_image,
    make_memory_folder,
    memory_folder,
    open_image,
    remove_dead_folders,
    remove_image,
    withdraw_record,
)
from kernels.book_image import FeedWriter, ImageError
from kernels.exchange_info import Symbol

SYMBOLS = (Symbol("BTCUSDT", "TRADING", "BTC", "USDT"), Symbol("币安USDT", "TRADING", "币安", "USDT"))
FEEDS = (FeedSlot("spot.0.0", "feed.spot.0"),)


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    remove_image(tmp_path)


def opened(run_dir: Path, symbols: tuple[Symbol, ...] = SYMBOLS) -> tuple[MappedImage, bool]:
    withdraw_record(run_dir)
    return open_image(run_dir, symbols, [0] * len(symbols), FEEDS, "venue", ring_slots=8)


def test_nobody_finds_an_image_before_it_is_made_or_while_it_is_withdrawn(run_dir: Path) -> None:
    assert find_image(run_dir, writable=False) is None
    opened(run_dir)
    assert find_image(run_dir, writable=False) is not None
    withdraw_record(run_dir)
    assert find_image(run_dir, writable=False) is None


def test_what_one_writes_another_reads_and_a_reader_cannot_write(run_dir: Path) -> None:
    opened(run_dir)
    writable, readable = find_image(run_dir, writable=True), find_image(run_dir, writable=False)
    assert writable is not None
    assert readable is not None
    FeedWriter(writable.image, 0, 1).write_row(1, 5, 6, 7, 8, 9, 10)
    row = readable.image.read_row(1)
    assert row is not None
    assert row[1:7] == (5, 6, 7, 8, 9, 10)
    assert readable.record.symbols == SYMBOLS
    with pytest.raises(ImageError, match="read-only"):
        FeedWriter(readable.image, 0, 2)


def test_an_image_that_still_fits_is_kept_with_its_epochs_and_takes_new_filters(run_dir: Path) -> None:
    first, created = opened(run_dir)
    assert created
    FeedWriter(first.image, 0, 7)
    finer = (Symbol("BTCUSDT", "TRADING", "BTC", "USDT", tick_size=5), SYMBOLS[1])
    second, created = opened(run_dir, finer)
    assert not created
    assert second.record.image_id == first.record.image_id
    assert second.image.read_header(0).epoch == 7
    assert second.record.symbols == finer
    assert first.is_current()


def test_other_symbols_make_another_image_and_users_of_the_old_one_are_told(run_dir: Path) -> None:
    first, _ = opened(run_dir)
    writer = FeedWriter(first.image, 0, 7)
    writer.beat(1)
    user = find_image(run_dir, writable=False)
    assert user is not None
    second, created = opened(run_dir, SYMBOLS[:1])
    assert created
    assert not user.is_current()
    assert second.is_current()
    assert user.image.read_header(0).held_down_epoch == 7
    files = [*memory_folder(run_dir).glob("image-*"), *run_dir.glob("image-*")]
    assert [str(path) for path in files] == [second.record.path]


def test_while_the_record_is_withdrawn_a_user_goes_on(run_dir: Path) -> None:
    first, _ = opened(run_dir)
    withdraw_record(run_dir)
    assert first.is_current()


@pytest.mark.parametrize("damage", ["cut", "gone", "other", "garbage"])
def test_a_damaged_image_is_refused_by_users_and_replaced_by_the_book(run_dir: Path, damage: str) -> None:
    first, _ = opened(run_dir)
    path = Path(first.record.path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "gone":
        path.unlink()
    elif damage == "other":
        path.write_bytes(bytes(path.stat().st_size))
    else:
        (run_dir / RECORD_NAME).write_text("{")
    with pytest.raises(ImageError):
        find_image(run_dir, writable=False)
    second, created = opened(run_dir)
    assert created
    assert second.image.read_header(0).epoch == 0


def test_where_the_memory_file_system_has_no_room_the_run_directory_is_used(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = image_file._reserve
    tried: list[int] = []

    def full_once(descriptor: int, n_bytes: int) -> None:
        tried.append(descriptor)
        if len(tried) == 1:
            raise OSError(28, "No space left on device")
        reserve(descriptor, n_bytes)

    monkeypatch.setattr(image_file, "_reserve", full_once)
    monkeypatch.setattr(image_file, "MEMORY_ROOT", memory_folder(run_dir).parent)
    mapped, created = opened(run_dir)
    assert created
    assert Path(mapped.record.path).parent == run_dir
    assert find_image(run_dir, writable=False) is not None


def test_without_a_memory_file_system_the_run_directory_is_used(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_file, "MEMORY_ROOT", run_dir / "absent")
    mapped, _ = opened(run_dir)
    assert Path(mapped.record.path).parent == run_dir
    remove_image(run_dir)
    assert not list(run_dir.glob("image-*"))


def test_a_reader_that_is_killed_takes_nothing_with_it(run_dir: Path) -> None:
    mapped, _ = opened(run_dir)
    code = (
        "import os, sys, signal; from pathlib import Path; from actors.adapters.image_file import find_image\n"
        "found = find_image(Path(sys.argv[1]), writable=False); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(run_dir)], cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -9
    assert Path(mapped.record.path).exists()
    assert find_image(run_dir, writable=True) is not None


def test_a_run_that_is_over_leaves_nothing(run_dir: Path) -> None:
    opened(run_dir)
    remove_image(run_dir)
    assert not memory_folder(run_dir).exists()
    assert not list(run_dir.glob("book_image*"))
    remove_image(run_dir)


def test_folders_of_runs_whose_directory_is_gone_are_removed_and_no_others(tmp_path: Path) -> None:
    dead, alive = tmp_path / "dead", tmp_path / "alive"
    for folder in (dead, alive):
        folder.mkdir()
        make_memory_folder(folder)
    gone, kept = memory_folder(dead), memory_folder(alive)
    dead.rmdir()
    assert remove_dead_folders() >= 1
    assert not gone.exists()
    assert kept.exists()
    remove_image(alive)


def test_a_folder_that_others_may_write_is_refused(run_dir: Path) -> None:
    folder = make_memory_folder(run_dir)
    os.chmod(folder, 0o777)
    with pytest.raises(ImageError, match="private"):
        make_memory_folder(run_dir)
