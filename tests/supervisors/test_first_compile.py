"""When the kernels are compiled ahead of the engine, and when not; the compiler is any command here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from supervisors.first_compile import COMPILE, compile_kernels

NOTE = "import pathlib; open('ran', 'a').write('x')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    (kernels / "one.py").write_text("ONE = 1\n")
    return kernels


def times_run(folder: Path) -> int:
    ran = folder.parent / "ran"
    return len(ran.read_text()) if ran.exists() else 0


def test_kernels_are_compiled_once_and_again_when_a_file_or_the_cache_s_place_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (sys.executable, "-c", NOTE)
    assert [compile_kernels("a", command, folder) for _ in range(3)] == [True, False, False]
    (folder / "one.py").write_text("ONE = 2\n")
    assert [compile_kernels("a", command, folder) for _ in range(2)] == [True, False]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder / "elsewhere"))
    assert [compile_kernels("a", command, folder) for _ in range(2)] == [True, False]
    assert times_run(folder) == 3
    assert len(list((folder / "__pycache__").glob("compiled-*"))) == 1


def test_what_does_not_compile_is_tried_again_and_ends_nobody(folder: Path) -> None:
    failing = (sys.executable, "-c", f"{NOTE}; raise SystemExit(3)")
    assert not compile_kernels("a", failing, folder)
    assert not compile_kernels("a", failing, folder)
    assert times_run(folder) == 2
    assert compile_kernels("a", (sys.executable, "-c", NOTE), folder)


def test_the_engine_s_own_command_fills_numba_s_cache_for_every_kernel() -> None:
    """Run as the guardian runs it; where the cache is full already this only loads it."""
    compile_kernels("a", COMPILE)
    assert not compile_kernels("a", COMPILE), "compiled once"
