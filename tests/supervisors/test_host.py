"""What an actor's host takes for its own. In a process of its own: a host changes signals and loggers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.supervisors.processes import python, read_when_written

CODE = """
import json, os, sys
from pathlib import Path
from actors.messages import Envelope, TimerFired
from config.schema import Settings
from supervisors.host import ActorHost
from supervisors.lifecycle import *
from supervisors.lifeline import ProcessIdentity
from supervisors.spec import ChildSpec, RestartType

post = Post("book", 1, 1, (Envelope("a", "", "", "book", "allocator", 1, 0, TimerFired("a")),))
host = ActorHost()
for message in (post, StopActor("allocator", 1, 1.0), Beat("allocator", 1, 7), Peers(1, ()), object()):
    host.on_message(message, None)
before = dict(host.ignored)

spec = ChildSpec("allocator", "worker", "a:b", RestartType.PERMANENT, 1.0)
context = RunContext(Settings(), "run", sys.argv[2], ProcessIdentity.of(os.getpid()))
host._start = StartActor(spec, context, 3, os.getppid())
host.on_message(StopActor("allocator", 2, 1.0), None)
host.on_message(StopActor("book", 3, 1.0), None)
host.on_message(Beat("book", 3, 7), None)
host.on_message(host._start, None)
host.on_message(object(), None)
Path(sys.argv[1]).write_text(json.dumps([before, host.ignored]) + "\\n")
"""


@pytest.mark.process
def test_what_is_not_for_this_actor_in_this_state_is_counted_and_ends_nothing(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with python(CODE, str(told), str(tmp_path)) as process:
        before, after = json.loads(read_when_written(told))
        assert process.wait(20) == 0
    assert before == {"ignored_before_start": 5}
    assert after == {"ignored_before_start": 5, "ignored_misdirected": 4, "ignored_unknown": 1}
