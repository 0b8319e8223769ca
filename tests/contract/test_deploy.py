"""The units under config/deploy parse, and start what `run.py` understands."""

from __future__ import annotations

import configparser
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import run
from config.schema import load
from supervisors.engine import ExitCode
from tests.chaos.engine_process import ROOT

DEPLOY = ROOT / "config" / "deploy"
UNIT, PLIST = DEPLOY / "apex.service", DEPLOY / "apex.plist"


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser


def assert_starts_the_engine(argv: list[str]) -> None:
    """As installed in /opt/apex: our Python, our run.py, and a command line that it takes."""
    python, program, *arguments = argv
    assert python == "/opt/apex/.venv/bin/python"
    assert program == "/opt/apex/run.py"
    parsed = run._parser().parse_args(arguments)
    assert parsed.command == "run"
    config = Path(parsed.config)
    assert config.is_relative_to("/opt/apex")
    settings = load(ROOT / config.relative_to("/opt/apex"), parsed.set)
    assert Path(settings.run.run_dir).is_absolute()


def test_systemd_starts_the_engine_and_is_told_when_it_serves() -> None:
    service = unit()["Service"]
    assert_starts_the_engine(shlex.split(service["ExecStart"]))
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert int(service["WatchdogSec"]) > load().supervision.dead_after_s
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > load().supervision.stop_timeout_s


def test_systemd_repeats_no_start_that_only_a_person_can_mend_and_every_other() -> None:
    service = unit()["Service"]
    never_again = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert never_again == {ExitCode.USAGE, ExitCode.REFUSED}
    assert run.EXIT_USAGE == ExitCode.USAGE
    assert run.EXIT_REFUSED == ExitCode.REFUSED
    assert ExitCode.BUDGET_SPENT not in never_again
    assert service["Restart"] == "always"


def test_what_systemd_may_write_is_where_the_run_directory_is() -> None:
    service = unit()["Service"]
    run_dir = re.search(r"run\.run_dir=(\S+)", service["ExecStart"])
    assert run_dir is not None
    assert run_dir[1] in service["ReadWritePaths"].split()
    assert run_dir[1] == f"/var/lib/{service['StateDirectory']}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_itself_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    """A copy with this machine's paths, because it looks whether what is started is there."""
    text = UNIT.read_text().replace("/opt/apex/.venv/bin/python", sys.executable).replace("/opt/apex", str(ROOT))
    copy = tmp_path / "apex.service"
    copy.write_text(text.replace("User=apex", "User=root").replace("Group=apex", "Group=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "apex" in line]
    assert not ours, done.stderr


def test_launchd_starts_the_engine_and_again_when_it_fails() -> None:
    agent = plistlib.loads(PLIST.read_bytes())
    assert_starts_the_engine(agent["ProgramArguments"])
    assert agent["Label"] == PLIST.stem
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ExitTimeOut"] > load().supervision.stop_timeout_s
    assert agent["Umask"] == 0o077


def test_the_steps_that_need_root_name_files_that_are_there() -> None:
    texts = [(ROOT / "docs" / "operations.md").read_text(), UNIT.read_text(), PLIST.read_text()]
    named = {name for text in texts for name in re.findall(r"config/deploy/[\w.]+", text)}
    assert named == {"config/deploy/apex.service", "config/deploy/apex.plist"}
    assert all((ROOT / name).exists() for name in named)
