"""Real processes for the tests: started by file, awaited with a bound, killed at the end by their own handle."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parent.parent.parent
BOUND_S = 30.0
T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str, bound_s: float = BOUND_S) -> T:
    """Return the condition's first true value; fail, saying what was awaited, after the bound."""
    deadline = time.monotonic() + bound_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {bound_s} s: {what}")
        time.sleep(0.005)


@contextmanager
def python(code: str, *arguments: str, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process of its own running `code`; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing for long."""
    process = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_when_written(path: Path) -> str:
    """Contents of a file that another process writes in one line, once the line is whole."""

    def whole() -> str:
        text = path.read_text() if path.exists() else ""
        return text if text.endswith("\n") else ""

    return eventually(whole, f"{path.name} is written").strip()
