"""Recordings replayed through book and evaluator by the command itself, on one processor, from capture files and lines.

Each frame that changes a row is evaluated before the next is read. The baselines run in the same call: a plain loop
(orjson, floats, the cycles of the changed symbol), and, asked for by `--peers`, NautilusTrader's backtest engine with a
strategy in Python that takes each quote and does no more, in an environment of its own that is made for it.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
import venv
from pathlib import Path

import msgspec
import orjson

from actors.adapters.capture_file import CaptureFile
from actors.offline import replay_command
from benchmarks.bare_feed import Plain
from benchmarks.market import NOW_NS, SEED, made_up_frames
from benchmarks.report import ROOT, Measured, spread_of
from kernels.warm import warm
from venues.exchange.universe import made_up_universe

SYMBOLS = 1_392
FRAMES = 20_000
PASSES = 50
GAP_NS = 10_000
CAPTURE_MIN = 1_000_000.0
LINES_MIN = 300_000.0
PEER = "nautilus_trader==1.221.0"
PEER_SECONDS_MAX = 900
_FIRST_ID = 10**13


def replay(quick: bool) -> list[Measured]:
    """Quotes a second, reading and report included."""
    warm()
    passes, rounds = (3, 2) if quick else (PASSES, 5)
    with tempfile.TemporaryDirectory(prefix="apex-bench-") as folder:
        captured, lines, listing, count = _recorded(Path(folder), passes)
        ours: dict[str, list[float]] = {"capture": [], "json_lines": []}
        bare: list[float] = []
        for _ in range(rounds):
            ours["capture"].append(_replayed(captured, listing, count))
            ours["json_lines"].append(_replayed(lines, listing, count))
            bare.append(_bare(lines))
    baseline = "orjson, floats, the cycles of the changed symbol in Python"
    return [
        _figure("replay.capture", ours["capture"], baseline, bare, CAPTURE_MIN),
        _figure("replay.json_lines", ours["json_lines"], baseline, bare, LINES_MIN),
    ]


def beside_peer(quick: bool) -> list[Measured]:
    """The same from capture files beside the peer, in turn."""
    warm()
    with tempfile.TemporaryDirectory(prefix="apex-bench-") as folder:
        captured, _, listing, count = _recorded(Path(folder), 3 if quick else PASSES)
        ours, peer = [], []
        for _ in range(1 if quick else 3):
            ours.append(_replayed(captured, listing, count))
            peer.append(_peer(Path(folder), count))
    about = f"{PEER}: its backtest engine, quotes of one instrument made before, Python on_quote_tick that counts"
    return [_figure("replay.beside_peer", ours, about, peer, None)]


def _recorded(folder: Path, passes: int) -> tuple[Path, Path, Path, int]:
    """Write the same frames as a capture file and as lines; return both, the listing, and how many there are."""
    universe = made_up_universe(SYMBOLS, SEED)
    names = [pair.rules.symbol for pair in universe.pairs]
    listing = folder / "exchangeInfo.json"
    listing.write_bytes(universe.market.info_reply(names, 0, 1))
    frames = [frame for _, frame in made_up_frames(SYMBOLS, SEED, FRAMES, first_id=_FIRST_ID)]
    capture = CaptureFile(folder / "spot.cap", 1 << 40)
    at = b'"u":1'
    with open(folder / "spot.lines", "wb") as lines:
        for number in range(passes * len(frames)):
            turn, place = divmod(number, len(frames))
            # Each pass has higher update ids: in the place of the leading zeros that made_up_frames left for it.
            frame = frames[place].replace(at + b"00000", at + b"%05d" % turn, 1)
            received_ns = NOW_NS + number * GAP_NS
            capture.write(received_ns, frame)
            lines.write(b"%d %b\n" % (received_ns, frame))
    capture.close()
    return folder / "spot.cap", folder / "spot.lines", listing, passes * len(frames)


def _replayed(path: Path, listing: Path, count: int) -> float:
    began = time.perf_counter()
    report = replay_command([path], listing, fee_bps="7.5")
    took_s = time.perf_counter() - began
    assert report.parsed == count, "every frame is a good one, and none is stale"
    assert report.evaluations > count, "each was evaluated"
    return count / took_s


def _bare(lines: Path) -> float:
    plain = Plain(SYMBOLS, SEED)
    count = 0
    began = time.perf_counter()
    with lines.open("rb") as file:
        for line in file:
            data = orjson.loads(line[line.index(b" ") + 1 :])["data"]
            plain.tops[data["s"]] = (float(data["b"]), float(data["B"]), float(data["a"]), float(data["A"]))
            plain.decide([data["s"]])
            count += 1
            if count == FRAMES:
                break
    return count / (time.perf_counter() - began)


def _peer(folder: Path, quotes: int) -> float:
    """Return the peer's quotes a second, in an environment made once in the folder."""
    home = folder / "peer"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", PEER], check=True, capture_output=True, timeout=PEER_SECONDS_MAX
        )
    program = ROOT / "benchmarks" / "peer_nautilus.py"
    done = subprocess.run(
        [python, program, str(quotes)], check=True, capture_output=True, timeout=PEER_SECONDS_MAX, cwd=folder
    )
    rate: float = msgspec.json.decode(done.stdout.splitlines()[-1])
    return rate


def _figure(name: str, rates: list[float], baseline: str, beside: list[float], goal: float | None) -> Measured:
    return Measured(
        name=name,
        value=spread_of(rates).p50,
        unit="quotes/s",
        baseline_name=baseline,
        baseline=spread_of(beside).p50,
        goal=goal,
        less_is_better=False,
        spread=spread_of(rates),
        baseline_spread=spread_of(beside),
        note=f"{SYMBOLS} symbols, 5,196 cycles, fee 7.5 bps, seed {SEED}; reading and report included",
    )
