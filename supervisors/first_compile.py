"""Compiles the kernels before the first process needs them: once after an install, or a change of theirs.

It takes some fifteen seconds of a core. Left to the actors, several would do it at once, each in the thread that its
heartbeat goes through, and would be killed as hung before they are done.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loguru import logger

from supervisors.session_record import RUN_ID_VARIABLE

KERNELS = Path(__file__).resolve().parent.parent / "kernels"
COMPILE = (sys.executable, "-c", "from kernels.warm import warm; warm()")
COMPILE_TIMEOUT_S = 300.0
_ERROR_CHARS = 500


def compile_kernels(run_id: str, command: Sequence[str] = COMPILE, folder: Path = KERNELS) -> bool:
    """Run `command` in a process of its own, unless it was done for these files; True if it ran and succeeded.

    The cache is numba's; a mark beside it says for which files it was filled. A failure is only logged: the actors
    compile what they miss, and say what is wrong with it.
    """
    mark = folder / "__pycache__" / f"compiled-{_digest(folder)}"
    if mark.exists():
        return False
    logger.info("compiling the kernels, once after an install or a change of theirs")
    try:
        done = subprocess.run(
            command,
            cwd=folder.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMPILE_TIMEOUT_S,
            check=False,
            start_new_session=True,
            env={**os.environ, RUN_ID_VARIABLE: run_id},
        )
    except subprocess.TimeoutExpired:
        logger.error("compiling the kernels took longer than {:g} s and was ended", COMPILE_TIMEOUT_S)
        return False
    if done.returncode != 0:
        logger.error("the kernels do not compile: {}", done.stderr.strip()[-_ERROR_CHARS:])
        return False
    with contextlib.suppress(OSError):  # a folder that cannot be written: the next start asks numba's cache again
        mark.parent.mkdir(exist_ok=True)
        for old in mark.parent.glob("compiled-*"):
            old.unlink(missing_ok=True)
        mark.touch()
    return True


def _digest(folder: Path) -> str:
    """Of all that numba's cache depends on."""
    parts = [sys.version, importlib.metadata.version("numba"), platform.node(), platform.machine()]
    parts.append(os.environ.get("NUMBA_CACHE_DIR", ""))
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8)
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
