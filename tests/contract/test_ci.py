"""What builds the project: the CI script, the Makefile, the lock file, and that they speak of the same project."""

from __future__ import annotations

import os
import re
import tomllib

import pytest

from tests.chaos.engine_process import ROOT

REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)[^\n]*\\\n((?:[ \t]+[^\n]+\n?)+)", re.MULTILINE)
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def locked() -> dict[str, tuple[str, str]]:
    """Version and the lines of hashes, by normalised name."""
    return {_normal(name): (version, hashes) for name, version, hashes in REQUIREMENT.findall(LOCK)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_ci_can_be_run_and_checks_before_it_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.startswith("#!")
    assert "set -euo pipefail" in text
    assert text.index("make check") < text.index("make test")


@pytest.mark.parametrize("target", ["run", "test", "check", "sim", "bench"])
def test_the_makefile_has_the_target_and_installs_first(target: str) -> None:
    assert re.search(rf"^{target}: \$\(STAMP\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_locked_requirement_has_hashes_and_none_names_an_index() -> None:
    starts = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==", LOCK, re.MULTILINE)
    assert len(starts) > 20
    found = REQUIREMENT.findall(LOCK)
    assert [name for name, _, _ in found] == starts  # a project may stand twice, for different Pythons
    for name, _, hashes in found:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", hashes), name
    assert "://" not in LOCK
    assert "--index-url" not in LOCK


def test_what_the_project_asks_for_is_what_is_locked() -> None:
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in asked:
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?(?:==(.+))?$", requirement)
        assert found, requirement
        assert _normal(found[1]) in locked(), requirement
        if found[2]:
            assert locked()[_normal(found[1])][0] == found[2], requirement


def test_the_changelog_and_the_readme_tell_of_this_version() -> None:
    version = PROJECT["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert version in (ROOT / "README.md").read_text("utf-8")
    assert (ROOT / PROJECT["readme"]).exists()
