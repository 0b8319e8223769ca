"""A supervisor with one worker and nothing else, as a process of its own: `python -m benchmarks.replay_tree`.

Arguments: run directory, ledger URL, bus URL, entries of the tail, `tree` or `bare`. `bare` is the baseline: a process
that forks a child which reads the same entries through redis-py, and forks the next one as soon as it is gone. Ends
when its standard input does, and takes what it started with it.
"""

from __future__ import annotations

import gc
import os
import secrets
import select
import signal
import sys
from pathlib import Path
from typing import cast

from benchmarks.replay_role import ROLE, SOCKET, announce
from config.schema import load
from supervisors.guardian import EngineProcess
from supervisors.lifecycle import RunContext, StartSupervisor
from supervisors.lifeline import ProcessIdentity, die_with_parent
from supervisors.spec import Backoff, ChildSpec, RestartType, Strategy, SupervisorSpec

Page = list[tuple[bytes, dict[bytes, bytes]]]

RESTARTS_MAX = 100_000
PAGE = 1_000


def main(arguments: list[str]) -> int:
    """Serve until standard input ends."""
    run_dir, ledger_url, bus_url, entries, kind = arguments
    gc.collect()
    gc.freeze()
    if kind == "bare":
        return _bare(Path(run_dir), ledger_url, int(entries))
    guardian = ProcessIdentity.of(os.getpid())
    engine = EngineProcess.start(lambda _: _tree(run_dir, ledger_url, bus_url, int(entries), guardian))
    try:
        sys.stdin.read()
    finally:
        engine.kill_session()
    return 0


def _tree(run_dir: str, ledger_url: str, bus_url: str, entries: int, guardian: ProcessIdentity) -> int:
    """Be the parent of the actor system: as `supervisors.boot`, with a tree of one."""
    import benchmarks.replay_role  # noqa: F401  before the fork, as boot imports its builders
    from supervisors.supervisor import SupervisorHost
    from supervisors.transport import admin_port, start_system

    die_with_parent(guardian.pid)
    settings = load(None, [f"run.run_dir={run_dir}", f"ledger.url={ledger_url}", f"ledger.bus_url={bus_url}"])
    system = start_system(admin_port(Path(run_dir)), secrets.token_bytes(32))
    worker = ChildSpec(
        role=ROLE,
        kind="worker",
        actor="benchmarks.replay_role:build",
        restart_type=RestartType.PERMANENT,
        shutdown_s=1.0,
        depends_on_ledger=True,
        options=(("entries", str(entries)),),
    )
    # Without backoff and with a budget that the trial cannot spend: each kill is to be the first of its kind.
    spec = SupervisorSpec("root", Strategy.ONE_FOR_ONE, RESTARTS_MAX, 1.0, Backoff(0.0, 1.0, 0.0), (worker,))
    context = RunContext(settings=settings, run_id="benchmark", run_dir=run_dir, guardian=guardian)
    system.tell(system.createActor(SupervisorHost), StartSupervisor(spec, context, 1, os.getpid()))
    signal.pause()
    return 0


def _bare(run_dir: Path, ledger_url: str, entries: int) -> int:
    # The supervisors are imported above, redis here: the child has, as an actor's process has, nothing left to import.
    from actors.adapters.redis_client import Purpose, connect
    from actors.keys import KeyType, key

    name = key(KeyType.JOURNAL, ROLE)
    while True:
        pid = os.fork()
        if pid == 0:
            client = connect(ledger_url, Purpose.LEDGER)
            found = 0
            first = "-"
            while page := cast("Page", client.xrange(name, first, "+", PAGE)):
                found += len(page)
                first = f"({page[-1][0].decode()}"
            assert found == entries, f"{found} entries, not {entries}"
            announce(run_dir / SOCKET, found)
            signal.pause()
        watch = os.pidfd_open(pid)
        ready, _, _ = select.select([sys.stdin, watch], [], [])
        os.close(watch)
        if sys.stdin in ready:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return 0
        os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
