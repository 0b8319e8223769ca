"""The compiled code holds the orderings that the protocol needs, read from what LLVM was told."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from kernels import seqlock
from kernels.atomics import fence_acquire, fence_release, load_acquire, load_relaxed, store_relaxed, store_release

OPERATION = re.compile(
    r"(load|store) atomic i64.*?(monotonic|acquire|release)|^\s*fence (acquire|release)", re.MULTILINE
)


def operations(function: object) -> list[str]:
    """Return a compiled function's atomic operations in order (reference counting's fences left out)."""
    (text,) = function.inspect_llvm().values()  # type: ignore[attr-defined]
    body = text[text.index("define ") :]
    found = []
    for match in OPERATION.finditer(body[: body.index("\n}")]):
        found.append(" ".join(part for part in match.groups() if part))
    return found


def test_each_primitive_is_the_instruction_of_its_name_and_works() -> None:
    @njit
    def all_of_them(array: np.ndarray) -> int:
        store_relaxed(array, 0, 5)
        fence_release()
        store_release(array, 1, load_relaxed(array, 0) + 2)
        fence_acquire()
        return load_acquire(array, 1)

    words = np.zeros(2, dtype=np.int64)
    assert all_of_them(words) == 7
    assert words.tolist() == [5, 7]
    found = operations(all_of_them)
    wanted = ["store monotonic", "release", "load monotonic", "store release", "acquire", "load acquire"]
    assert [one for one in found if one in wanted][: len(wanted)] == wanted


def test_an_array_that_must_not_be_written_or_is_no_int64_vector_does_not_compile() -> None:
    @njit
    def write(array: np.ndarray) -> None:
        store_release(array, 0, 1)

    frozen = np.zeros(2, dtype=np.int64)
    frozen.flags.writeable = False
    for array in (frozen, np.zeros(2, dtype=np.int32), np.zeros((2, 2), dtype=np.int64)):
        with pytest.raises(TypingError):
            write(array)


def fresh(function: object) -> object:
    """Compile again, so that the text is there even where the cache holds the code."""
    return njit(nogil=True)(function.py_func)  # type: ignore[attr-defined]


def test_a_row_is_written_odd_fence_data_then_even_with_release() -> None:
    write = fresh(seqlock.write_row)
    words = np.zeros(64, dtype=np.int64)
    write(words[:8], words[8:24], words[24:34], 0, 0, 0, 1, 2, 3, 4, 5, 6, 7)  # type: ignore[operator]
    found = operations(write)
    begin = found.index("store monotonic")
    assert found[begin : begin + 10] == ["store monotonic", "release", *["store monotonic"] * 7, "store release"]


def test_a_row_is_read_between_an_acquiring_look_and_a_fenced_one() -> None:
    read = fresh(seqlock.read_row)
    words = np.zeros(16, dtype=np.int64)
    read(words[:8], 0, words[8:])  # type: ignore[operator]
    found = operations(read)
    begin = found.index("load acquire")
    loads = found[begin + 1 :]
    assert "acquire" in loads
    fence = loads.index("acquire")
    assert set(loads[:fence]) == {"load monotonic"}
    assert loads[fence + 1] == "load monotonic"
