"""The file of the book image, and the record beside it that says where it is and what its rows are.

The image lies in a folder of the run's own on the memory file system where there is one with room, else in the run
directory; never `multiprocessing.shared_memory`, whose segment a killed reader takes with it. `book_image.json` in the
run directory (`ImageRecord`) is the only way to find it. Who may write which part: `kernels.book_image`.

Lifetimes: the book actor withdraws the record at its start and puts it back once the image is as it must be, so that
nobody who starts after it maps an old one. A new image is a new file under a new name; whoever still maps the old one
is told by `MappedImage.is_current`, and the old feeds' headers are held down before the new record stands.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kernels.book_image import LAYOUT_VERSION, RING_SLOTS, BookImage, ImageError, format_image, layout
from kernels.exchange_info import Symbol

RECORD_NAME = "book_image.json"
WITHDRAWN_NAME = "book_image.previous.json"
MEMORY_ROOT = Path("/dev/shm")
DEAD_FOLDERS_MAX = 1_000
_OWNER_NAME = "run_dir"
_PREFIX = "apex-"


class FeedSlot(msgspec.Struct, frozen=True):
    """A feed of the image: one connection, with a header, a ring and rows of its own; `role` is who runs it.

    `twin_of`: the slot whose symbols it follows a second time, empty for none.
    """

    name: str
    role: str
    twin_of: str = ""


class ImageRecord(msgspec.Struct, frozen=True):
    """What is true of the image at `path`. Row numbers are positions in `symbols`; `row_feed` names slots by position.

    `ladders`: (row, slot) of each symbol whose depth is followed, `ladder_levels` a side.

    `source`: `venue`, or `kept_copy` where the list of symbols is the last good one because the venue was away.
    """

    image_id: str
    path: str
    layout_version: int
    ring_slots: int
    feeds: tuple[FeedSlot, ...]
    row_feed: tuple[int, ...]
    symbols: tuple[Symbol, ...]
    source: str
    created_ns: int
    ladders: tuple[tuple[int, int], ...] = ()
    ladder_levels: int = 0


class MappedImage:
    """An image, mapped. Unmapped when the last view of it goes."""

    def __init__(self, run_dir: Path, record: ImageRecord, *, writable: bool) -> None:
        """Raises ImageError where the file is absent, cut off, or another than the record says."""
        self.record = record
        self._record_path = run_dir / RECORD_NAME
        self._seen = _signature(self._record_path)
        try:
            with open(record.path, "r+b" if writable else "rb") as file:
                access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
                mapped = mmap.mmap(file.fileno(), 0, access=access)
        except (OSError, ValueError) as error:
            raise ImageError(f"{record.path}: {error}; restart the book actor, which makes it anew") from error
        self.image = BookImage(memoryview(mapped))
        if self.image.symbols_digest != digest(record.symbols, record.row_feed):
            raise ImageError(f"{record.path} numbers other symbols than {RECORD_NAME}; restart the book actor")

    def is_current(self) -> bool:
        """Whether the record still names this image; also while it is withdrawn, for then nobody knows yet."""
        now = _signature(self._record_path)
        if now == self._seen or now is None:
            return True
        record = read_record(self._record_path)
        self._seen = now
        return record is None or record.image_id == self.record.image_id


def memory_folder(run_dir: Path) -> Path:
    """Return the run's own folder outside its run directory, for the image and for sockets, whose paths must be short.

    Not made here. Different for each user and run directory.
    """
    name = f"{os.getuid()}:{os.path.realpath(run_dir)}"
    root = MEMORY_ROOT if os.access(MEMORY_ROOT, os.W_OK) else Path(tempfile.gettempdir())
    return root / f"{_PREFIX}{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def make_memory_folder(run_dir: Path) -> Path:
    """Make it where it is absent, and return it. Raises ImageError where something else stands there."""
    folder = memory_folder(run_dir)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        (folder / _OWNER_NAME).write_text(os.path.realpath(run_dir), encoding="utf-8")
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ImageError(f"{folder} is not a private folder of ours; remove it")
    return folder


def withdraw_record(run_dir: Path) -> None:
    """Begin the book actor's incarnation: from here on nobody finds an image, until `open_image` has said which."""
    with contextlib.suppress(FileNotFoundError):
        os.replace(run_dir / RECORD_NAME, run_dir / WITHDRAWN_NAME)


def open_image(
    run_dir: Path,
    symbols: Sequence[Symbol],
    row_feed: Sequence[int],
    feeds: Sequence[FeedSlot],
    source: str,
    ring_slots: int = RING_SLOTS,
    ladders: Sequence[tuple[int, int]] = (),
    ladder_levels: int = 0,
) -> tuple[MappedImage, bool]:
    """Return the run's image, writable, and whether it was made anew: the book actor's act.

    The withdrawn image is kept if its symbols, feeds and layout are these. Raises ImageError, OSError.
    """
    previous = _previous(run_dir)
    if previous is not None:
        kept = previous.record
        depth = (tuple(ladders), ladder_levels if ladders else 0)
        wanted = (LAYOUT_VERSION, ring_slots, tuple(feeds), tuple(row_feed), [one.name for one in symbols])
        found = (kept.layout_version, kept.ring_slots, kept.feeds, kept.row_feed, [one.name for one in kept.symbols])
        if found == wanted and (kept.ladders, kept.ladder_levels) == depth:
            record = msgspec.structs.replace(kept, symbols=tuple(symbols), source=source)
            _write_record(run_dir, record)
            return MappedImage(run_dir, record, writable=True), False
        for feed in range(len(kept.feeds)):
            previous.image.hold_down(feed)
    created_ns = time.time_ns()
    image_id = f"{created_ns:x}-{os.getpid()}"
    record = ImageRecord(
        image_id, "", LAYOUT_VERSION, ring_slots, tuple(feeds), tuple(row_feed), tuple(symbols), source,
        created_ns, tuple(ladders), ladder_levels if ladders else 0,
    )  # fmt: skip
    path = _make_file(run_dir, record)
    record = msgspec.structs.replace(record, path=str(path))
    _write_record(run_dir, record)
    _remove_others(run_dir, path)
    return MappedImage(run_dir, record, writable=True), True


def find_image(run_dir: Path, *, writable: bool) -> MappedImage | None:
    """Return the run's image, None where there is no record of one (yet). Raises ImageError."""
    record = read_record(run_dir / RECORD_NAME)
    return None if record is None else MappedImage(run_dir, record, writable=writable)


def read_record(path: Path) -> ImageRecord | None:
    """Return the record, None where it is absent. Raises ImageError where it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ImageRecord)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ImageError(f"{path}: {error}; remove it, the book actor makes it anew") from error


def remove_image(run_dir: Path) -> None:
    """Remove image, sockets and records of a run that is over: for `--fresh`, and after the last stop."""
    for name in (RECORD_NAME, WITHDRAWN_NAME):
        (run_dir / name).unlink(missing_ok=True)
    for path in run_dir.glob("image-*"):
        path.unlink(missing_ok=True)
    shutil.rmtree(memory_folder(run_dir), ignore_errors=True)


def remove_dead_folders() -> int:
    """Remove our folders on the memory file system whose run directory is gone; return how many (at most 1,000)."""
    removed = 0
    for folder in sorted(memory_folder(Path()).parent.glob(_PREFIX + "*"))[:DEAD_FOLDERS_MAX]:
        try:
            owner = (folder / _OWNER_NAME).read_text(encoding="utf-8")
            dead = folder.lstat().st_uid == os.getuid() and not Path(owner).exists()
        except OSError:
            continue  # another's, or being made right now
        if dead and memory_folder(Path(owner)) == folder:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def digest(symbols: Sequence[Symbol], row_feed: Sequence[int]) -> int:
    """Return a positive int64 that says which rows an image has, and whose they are."""
    text = "\n".join(f"{symbol.name} {feed}" for symbol, feed in zip(symbols, row_feed, strict=True))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _previous(run_dir: Path) -> MappedImage | None:
    try:
        record = read_record(run_dir / WITHDRAWN_NAME)
        return None if record is None else MappedImage(run_dir, record, writable=True)
    except ImageError:
        return None  # nothing to keep: a new one is made


def _make_file(run_dir: Path, record: ImageRecord) -> Path:
    image_id, n_feeds = record.image_id, len(record.feeds)
    numbers = {slot.name: number for number, slot in enumerate(record.feeds)}
    twins = {numbers[slot.twin_of]: number for number, slot in enumerate(record.feeds) if slot.twin_of}
    replicas, n_ladders = 2 if twins else 1, len(record.ladders)
    parts = layout(len(record.symbols), n_feeds, record.ring_slots, replicas, n_ladders, record.ladder_levels)
    n_bytes = parts.n_bytes
    folders = [make_memory_folder(run_dir), run_dir] if os.access(MEMORY_ROOT, os.W_OK) else [run_dir]
    for folder in folders:
        draft = folder / f"image-{image_id}.draft"
        try:
            with open(draft, "x+b") as file:
                os.fchmod(file.fileno(), 0o600)
                _reserve(file.fileno(), n_bytes)
                with mmap.mmap(file.fileno(), n_bytes) as mapped:
                    view = memoryview(mapped)
                    image = format_image(
                        view, record.row_feed, n_feeds, record.ring_slots, digest(record.symbols, record.row_feed),
                        twins, record.ladders, record.ladder_levels,
                    )  # fmt: skip
                    del image
                    view.release()
        except OSError:
            draft.unlink(missing_ok=True)
            if folder is folders[-1]:
                raise
            continue  # the memory file system is full: the run directory's is slower, and as right
        path = folder / f"image-{image_id}"
        os.replace(draft, path)
        return path
    raise AssertionError("unreachable: the last folder returns or raises")


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Give the file its size and, where the system can, its pages: a store into a page that cannot be had is SIGBUS."""
    os.ftruncate(descriptor, n_bytes)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)


def _write_record(run_dir: Path, record: ImageRecord) -> None:
    draft = run_dir / (RECORD_NAME + ".draft")
    with open(draft, "wb") as file:
        file.write(msgspec.json.encode(record))
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, run_dir / RECORD_NAME)


def _remove_others(run_dir: Path, kept: Path) -> None:
    for folder in {memory_folder(run_dir), run_dir}:
        for path in folder.glob("image-*"):
            if path != kept:
                path.unlink(missing_ok=True)


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
