"""A driver's thread on one processor, where the settings ask for it."""

from __future__ import annotations

import os


class PinningError(RuntimeError):
    """The thread cannot run there; the text names the processor, what there is, and the remedy."""


def pin_thread(cpu: int | None) -> None:
    """Let the calling thread run on this processor alone; None: leave it. Other threads of the process stay free.

    Raises PinningError where the system has no such processor for us, or does not pin at all.
    """
    if cpu is None:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise PinningError(f"this system does not pin threads, not to {cpu} either. Remedy: leave the setting out")
    allowed = os.sched_getaffinity(os.getpid())
    if cpu not in allowed:
        raise PinningError(
            f"processor {cpu} is none that this process may use ({', '.join(map(str, sorted(allowed)))}). "
            "Remedy: name one of these in evaluator.cpu or exchange.feed_cpus, or leave them out"
        )
    os.sched_setaffinity(0, {cpu})
