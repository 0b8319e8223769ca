"""The message trace and the bounded line files under it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from actors.adapters.line_file import LineFile
from actors.adapters.trace_file import BUFFER_BYTES_MAX, NullTracer, TraceFile
from actors.messages import Envelope, PriceSeen
from tests.conftest import ROOT


def envelope(number: int = 1) -> Envelope:
    return Envelope(
        message_id=f"feed:{number}.0",
        correlation_id="market:1",
        causation_id="feed:0.0",
        source="feed",
        target="counter",
        source_epoch=3,
        ts_init_ns=10,
        ts_event_ns=9,
        delivery_seq=number,
        body=PriceSeen("AAPL", 1, 9),
    )


def lines(path: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_a_hop_says_who_to_whom_what_and_when(tmp_path: Path) -> None:
    tracer = TraceFile(tmp_path, "counter", 1)
    tracer.hop(envelope(), 11, 12, "handled")
    tracer.sent(envelope(2), 13)
    assert not (tmp_path / "trace").exists()
    tracer.flush()
    hop, sent = lines(tmp_path / "trace" / "counter.jsonl")
    assert hop == {
        "by": "counter",
        "who": "feed",
        "to": "counter",
        "type": "PriceSeen",
        "message_id": "feed:1.0",
        "correlation_id": "market:1",
        "causation_id": "feed:0.0",
        "source_epoch": 3,
        "delivery_seq": 1,
        "ts_event_ns": 9,
        "ts_init_ns": 10,
        "sent_ns": None,
        "received_ns": 11,
        "handled_ns": 12,
        "outcome": "handled",
    }
    assert (sent["message_id"], sent["sent_ns"], sent["outcome"]) == ("feed:2.0", 13, "sent")


def test_lines_wait_in_memory_up_to_a_bound(tmp_path: Path) -> None:
    tracer = TraceFile(tmp_path, "counter", 1)
    path = tmp_path / "trace" / "counter.jsonl"
    number = 0
    while not path.exists():
        number += 1
        tracer.sent(envelope(number), 1)
    assert BUFFER_BYTES_MAX <= path.stat().st_size < BUFFER_BYTES_MAX + 1_000
    tracer.sent(envelope(), 1)
    tracer.close()
    assert len(lines(path)) == number + 1


def test_a_trace_is_bounded_by_two_files_and_keeps_the_newest(tmp_path: Path) -> None:
    tracer = TraceFile(tmp_path, "counter", 1)
    for number in range(1, 12_001):
        tracer.hop(envelope(number), 11, 12, "handled")
    tracer.close()
    folder = tmp_path / "trace"
    kept = sorted(path.name for path in folder.glob("counter*"))
    assert kept == ["counter.jsonl", "counter.jsonl.1"]
    assert all((folder / name).stat().st_size <= 1 << 20 for name in kept)
    found = [line["delivery_seq"] for name in reversed(kept) for line in lines(folder / name)]
    assert found == list(range(12_001 - len(found), 12_001))
    assert len(found) < 12_000


def test_a_disk_that_takes_nothing_costs_lines_and_never_the_actor(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("a file where the folder should be")
    tracer = TraceFile(tmp_path, "counter", 1)
    tracer.sent(envelope(), 1)
    tracer.sent(envelope(), 1)
    tracer.flush()
    assert tracer.failed == 2


def test_no_trace_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tracer = NullTracer()
    tracer.hop(envelope(), 1, 2, "handled")
    tracer.sent(envelope(), 1)
    tracer.flush()
    tracer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_line_longer_than_the_bound_is_written_all_the_same(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "a.jsonl", 10)
    file.append(b"x" * 30 + b"\n")
    file.append(b"y\n")
    file.close()
    assert (tmp_path / "a.jsonl").read_bytes() == b"y\n"
    assert (tmp_path / "a.jsonl.1").read_bytes() == b"x" * 30 + b"\n"


def test_a_file_that_was_taken_away_is_begun_anew(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "a.jsonl", 1_000)
    file.append(b"1\n")
    os.unlink(file.path)
    file.append(b"2\n")
    file.close()
    assert file.path.read_bytes() == b"2\n"


@pytest.mark.process
def test_lines_of_two_processes_never_mix(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from actors.adapters.line_file import LineFile\n"
        "file = LineFile(Path(sys.argv[1]), 200_000)\n"
        "for i in range(2_000): file.append((sys.argv[2] * 60 + chr(10)).encode())"
    )
    path = tmp_path / "a.jsonl"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(path), letter], cwd=ROOT) for letter in ("a", "b")
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    kept = path.read_bytes() + path.with_name("a.jsonl.1").read_bytes()
    assert set(kept.splitlines()) <= {b"a" * 60, b"b" * 60}
    assert path.stat().st_size <= 200_000
