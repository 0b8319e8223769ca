"""The message trace: one orjson line a hop, one file an actor, `<run_dir>/trace/<role>.jsonl`."""

from __future__ import annotations

from pathlib import Path

import orjson

from actors.adapters.line_file import LineFile
from actors.messages import Envelope

BUFFER_BYTES_MAX = 64 << 10


class TraceFile:
    """`ports.Tracer`. Lines wait in memory up to 64 KiB: the last of them may die with the process.

    Full: two files of `mb_max` each are kept, the older is overwritten. A disk that takes nothing costs the lines and
    never the actor: `failed` counts them.
    """

    def __init__(self, run_dir: Path | str, role: str, mb_max: int) -> None:
        self._role = role
        self._file = LineFile(Path(run_dir) / "trace" / f"{role}.jsonl", mb_max << 20)
        self._buffer = bytearray()
        self._lines = 0
        self.failed = 0

    def hop(self, envelope: Envelope, received_ns: int, handled_ns: int, outcome: str) -> None:
        """Received here and handled, or refused and why."""
        self._write(envelope, None, received_ns, handled_ns, outcome)

    def sent(self, envelope: Envelope, sent_ns: int) -> None:
        """Handed to the transport."""
        self._write(envelope, sent_ns, None, None, "sent")

    def flush(self) -> None:
        """Write what waits."""
        if not self._buffer:
            return
        try:
            self._file.append(bytes(self._buffer))
        except OSError:
            self.failed += self._lines
            self._file.close()
        self._buffer.clear()
        self._lines = 0

    def close(self) -> None:
        """Write what waits and close."""
        self.flush()
        self._file.close()

    def _write(
        self, envelope: Envelope, sent_ns: int | None, received_ns: int | None, handled_ns: int | None, outcome: str
    ) -> None:
        self._buffer += orjson.dumps(
            {
                "by": self._role,
                "who": envelope.source,
                "to": envelope.target,
                "type": type(envelope.body).__name__,
                "message_id": envelope.message_id,
                "correlation_id": envelope.correlation_id,
                "causation_id": envelope.causation_id,
                "source_epoch": envelope.source_epoch,
                "delivery_seq": envelope.delivery_seq,
                "ts_event_ns": envelope.ts_event_ns,
                "ts_init_ns": envelope.ts_init_ns,
                "sent_ns": sent_ns,
                "received_ns": received_ns,
                "handled_ns": handled_ns,
                "outcome": outcome,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        self._lines += 1
        if len(self._buffer) >= BUFFER_BYTES_MAX:
            self.flush()


class NullTracer:
    """`ports.Tracer` that keeps nothing."""

    def hop(self, envelope: Envelope, received_ns: int, handled_ns: int, outcome: str) -> None:
        """Nothing."""

    def sent(self, envelope: Envelope, sent_ns: int) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
