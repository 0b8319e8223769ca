"""The programs that the guardian starts beside the engine: paper venues and the terminal view."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from config.schema import Settings
from supervisors.outside import OutsideFailed
from supervisors.session_record import RUN_ID_VARIABLE

READY_TIMEOUT_S = 60.0


class VenueFile(msgspec.Struct, frozen=True):
    """The part of a venue's own address file that the guardian needs."""

    pid: int
    port: int = 0
    control_port: int = 0
    api_key_file: str = ""


class VenueProgram:
    """A paper venue as a process: `run.py <name> --state DIR …`, on the ports it had before."""

    def __init__(self, name: str, run_id: str, run_dir: Path, arguments: list[str], address_file: str) -> None:
        self.name = name
        self._run_id = run_id
        self._state = run_dir / name
        self._log = run_dir / "logs" / f"{name}.log"
        self._arguments = arguments
        self._address = self._state / address_file
        self._child: subprocess.Popen[bytes] | None = None

    def launch(self, ports: list[str]) -> int:
        """Start it and return its pid once it has written down that it serves."""
        self._state.mkdir(parents=True, exist_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._address.unlink(missing_ok=True)
        program = Path(sys.argv[0]).resolve()
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, str(program), self.name, "--state", str(self._state), *ports, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, RUN_ID_VARIABLE: self._run_id},
            )
        try:
            if self._serves_within(READY_TIMEOUT_S, self._child):
                return self._child.pid
        except BaseException:  # a Ctrl-C: nobody else knows of this child yet
            self._child.kill()
            raise
        self._child.kill()
        raise OutsideFailed(f"{self.name} did not come up; its log is {self._log}: {self._last_words()}")

    def _serves_within(self, seconds: float, child: subprocess.Popen[bytes]) -> bool:
        """Wait until it has written down that it serves; False if it ends first, or not in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and child.poll() is None:
            found = self.address()
            if found is not None and found.pid == child.pid:
                return True
            time.sleep(0.01)
        return False

    def address(self) -> VenueFile | None:
        """What it wrote down, if it did."""
        try:
            return msgspec.json.decode(self._address.read_bytes(), type=VenueFile)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def reap(self) -> None:
        """Collect it if it has ended."""
        if self._child is not None:
            self._child.poll()

    def _last_words(self) -> str:
        size = self._log.stat().st_size
        with self._log.open("rb") as log:
            log.seek(max(0, size - 500))
            return log.read().decode("utf-8", "replace").strip().replace("\n", " | ")


class VenueLauncher:
    """Starts a venue on the ports it had before, so that its clients find it again; the first time on those given."""

    def __init__(self, program: VenueProgram, port: int, control_port: int | None) -> None:
        self._program = program
        self._port = port
        self._control_port = control_port

    def __call__(self) -> int:
        """Launch; return the pid. Raises OutsideFailed."""
        self._program.reap()
        arguments = ["--port", str(self._port)]
        if self._control_port is not None:
            arguments += ["--control", str(self._control_port)]
        pid = self._program.launch(arguments)
        address = self._program.address()
        if address is not None:
            self._port = address.port
            self._control_port = None if self._control_port is None else address.control_port
        return pid


class ViewLauncher:
    """Starts the terminal view, in the terminal's own process group; its end is not the engine's affair."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Launch; return the pid."""
        if self._child is not None:
            self._child.poll()
        program = str(Path(sys.argv[0]).resolve())
        self._child = subprocess.Popen([sys.executable, program, "view", *self._arguments])
        return self._child.pid


def exchange_arguments(settings: Settings) -> list[str]:
    """Command line of `run.py exchange` for these settings, without ports."""
    venue = settings.venues.exchange
    arguments = ["--seed", str(venue.seed), "--pace", str(venue.pace), "--rate", str(venue.rate_per_s)]
    arguments += ["--opportunity-every-s", str(venue.opportunity_every_s)]
    arguments += ["--commission-bps", str(venue.commission_bps)]
    arguments += ["--bnb-discount"] if venue.bnb_discount else []
    arguments += ["--balance", *venue.balances] if venue.balances else []
    arguments += ["--exchange-info", venue.exchange_info] if venue.exchange_info else ["--symbols", str(venue.symbols)]
    return [*arguments, "--record", *venue.record] if venue.record else arguments


def gateway_arguments(settings: Settings) -> list[str]:
    """Command line of `run.py gateway` for these settings, without ports."""
    venue = settings.venues.gateway
    arguments = ["--seed", str(venue.seed), "--tick-ms", str(venue.tick_ms)]
    arguments += ["--volatility-bps", str(venue.volatility_bps), "--account", settings.gateway.account]
    arguments += ["--partial-parent", venue.partial_parent]
    return arguments if venue.walk else [*arguments, "--no-walk"]
