"""Every command in README and docs is run, as it stands there, against an engine that `make run` started.

Only what cannot be the same here is replaced: the Python, the run directory, files under /tmp; and `make` says what
it would run (the engine of these tests is `make run`'s; the other targets are CI itself).
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.engine_process import ROOT
from tests.contract.conftest import MadeRun, make_here

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"(?:\.venv/bin/)?python run\.py (\w+)")
OURS = re.compile(r"^\s*(\.venv/bin/python|python run\.py|make (run|test|check|sim|bench))\b", re.MULTILINE)
OFFLINE = {"cycles", "replay", "exchange", "gateway"}


def fences() -> Iterator[tuple[str, str, str]]:
    """(where, language, text) of every fenced block."""
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{document.relative_to(ROOT)}:{line}", found[1], found[2]


COMMANDS = [(where, text) for where, language, text in fences() if language in ("sh", "console")]


def as_run_here(text: str, language_is_console: bool, settings: str, scratch: Path) -> str:
    """The block as a script: prompts off, the Python, the run directory and /tmp replaced."""
    if language_is_console:
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))

    def placed(found: re.Match[str]) -> str:
        sets = "" if found[1] in OFFLINE else settings
        return f"{shlex.quote(sys.executable)} run.py {found[1]} {sets}"

    return RUN.sub(placed, text.replace("/tmp/", f"{scratch}/"))


@pytest.mark.process
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("where", "text"), COMMANDS, ids=[where for where, _ in COMMANDS])
def test_what_the_documents_tell_to_type_works(engine: MadeRun, tmp_path: Path, where: str, text: str) -> None:
    settings = " ".join(f"--set {shlex.quote(override)}" for override in engine.overrides)
    script = as_run_here(text, not OURS.search(text) and "$ " in text[:2], settings, tmp_path)
    make = f'make() {{ command {shlex.join(make_here())} --dry-run "$@"; }}\n'
    engine.wait_serving()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", make + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{where}\n{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr


@pytest.mark.process
@pytest.mark.timeout(180)
def test_the_engine_survived_its_documentation(engine: MadeRun) -> None:
    """The killed are back, nobody left it halted, and the signals of the documents have their outcomes."""
    engine.wait_serving()
    assert engine.status().halt is None

    def by_hand() -> list[object]:
        return [one["outcome"] for name, one in engine.outcomes().items() if name.startswith(("hello-", "doc-"))]

    engine.wait(lambda: len(by_hand()) >= 2, 90, "an outcome for each documented signal")


def test_no_command_of_ours_hides_in_a_block_that_is_not_run() -> None:
    languages = {"sh", "console", "text", "json", "toml", ""}
    wrong = [
        f"{where} ({language or 'no language'})"
        for where, language, text in fences()
        if language not in languages or (language not in ("sh", "console") and OURS.search(text.split("#")[0]))
    ]
    hidden = [one for one in wrong if not one.startswith("docs/operations.md")]
    assert not hidden, f"mark these sh, so that they are run: {hidden}"


@pytest.mark.parametrize("target", ["run", "test", "check", "sim", "agree", "chaos", "chaos-cycles", "bench"])
def test_every_documented_make_target_leads_to_a_program_that_is_there(target: str) -> None:
    done = subprocess.run(
        [*make_here(), "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    programs = re.findall(r"python (run\.py|-m (\S+))", done.stdout)
    assert programs, done.stdout
    for program, module in programs:
        path = ROOT / (program if not module else module.replace(".", "/"))
        assert path.exists() or path.with_suffix(".py").exists() or module in ("pip", "pytest", "ruff", "mypy"), program
