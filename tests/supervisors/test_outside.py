"""Programs beside the engine: one that does not come up is tried again, later each time, and is nobody's end."""

from __future__ import annotations

import subprocess

import pytest

from actors.adapters.redis_server import ServerFailed
from supervisors.outside import Outside, OutsideFailed
from tests.supervisors.processes import eventually

pytestmark = pytest.mark.process


class Launcher:
    """Starts a sleeper, or raises what it was told to."""

    def __init__(self) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self.failures: list[Exception] = []

    def __call__(self) -> int:
        if self.failures:
            raise self.failures.pop(0)
        self.children.append(subprocess.Popen(["sleep", "600"]))
        return self.children[-1].pid

    def end(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()


@pytest.mark.parametrize("failure", [ServerFailed("no"), OutsideFailed("no"), OSError("no")])
def test_a_revival_that_fails_is_tried_again_after_a_pause(failure: Exception) -> None:
    launcher = Launcher()
    try:
        one = Outside("redis.ledger", launcher)
        one.start()
        launcher.failures = [failure, failure]
        launcher.children[0].kill()
        launcher.children[0].wait()
        eventually(one.revive, "it runs again")
        assert one.restarts == 3, "two in vain, one that held"
        assert len(launcher.children) == 2
        assert not one.revive(), "nothing to do while it runs"
    finally:
        launcher.end()


def test_a_first_start_that_fails_is_told_to_the_caller() -> None:
    launcher = Launcher()
    launcher.failures = [OutsideFailed("its log is there")]
    with pytest.raises(OutsideFailed, match="its log is there"):
        Outside("gateway", launcher).start()
