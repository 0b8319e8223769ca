"""The theatre in which scenes with the real actor system are played."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.supervisors.processes import ROOT

SCENE_TIMEOUT_S = 90


class Theatre:
    """Plays one scene and clears the stage: every process of it carries this theatre's name in its environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = uuid.uuid4().hex

    def play(self, scene: str) -> dict[str, Any]:
        result = self.folder / "result.json"
        with (self.folder / "output").open("wb") as output:
            finished = subprocess.run(
                [sys.executable, "-m", "tests.supervisors.stage", scene, str(result)],
                cwd=ROOT,
                env={**os.environ, "APEX_TEST_STAGE": self.name, "TMPDIR": str(self.folder), "SPT_NOENV": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=SCENE_TIMEOUT_S,
                check=False,
            )
        assert finished.returncode == 0, (self.folder / "output").read_text()[-4000:]
        seen: dict[str, Any] = json.loads(result.read_text())
        return seen

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def clear(self) -> None:
        while left := [process for process in psutil.process_iter() if self._is_ours(process)]:
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.005)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("APEX_TEST_STAGE") == self.name and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return False


@pytest.fixture
def theatre(tmp_path: Path) -> Iterator[Theatre]:
    one = Theatre(tmp_path)
    try:
        yield one
    finally:
        one.clear()
