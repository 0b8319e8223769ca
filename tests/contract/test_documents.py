"""What the documents say of the code is so: files, links, messages, alarms, settings, exit codes."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from actors.messages import AnyMessage
from config.schema import Settings
from kernels import market_watch
from supervisors.engine import ExitCode
from tests.chaos.engine_process import ROOT
from tests.contract.test_documented_commands import DOCUMENTS

FILE = re.compile(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|toml|json|md|service|plist))`")
LINK = re.compile(r"\]\(([^)#:]+)\)")
OF_A_RUN = re.compile(
    r"^(run/|identity\.json|engine\.json|session\.json|book_image\.json|exchange_info\.json|redis\.pin)"
)
SECTIONS = "|".join(Settings.__struct_fields__)
SETTING = re.compile(rf"`((?:{SECTIONS})(?:\.[a-z_]+)+)\b")
NOT_SETTINGS = {"run.py", "run.lock"}
OF_THE_ENGINE = [path for path in DOCUMENTS if not path.name.startswith("venues_")]
MODULES = {
    "host": ("../supervisors/host.py",),
    "broker": ("broker.py", "broker_turn.py", "broker_intents.py", "broker_facts.py"),
    "broker.spot": ("broker_spot.py", "spot_turn.py", "spot_facts.py"),
    "reconciler": ("reconciler.py", "reconciler_findings.py", "reconciler_absence.py"),
    "executor": ("executor.py", "executor_outcome.py"),
    "risk": ("risk.py", "risk_flatten.py", "risk_breaker.py"),
    "sentinel": ("sentinel.py", "sentinel_close.py"),
    "driver": (),
    "shell": ("shell.py",),
    "core": ("core.py",),
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_files_and_links_that_are_named_are_there(document: Path) -> None:
    path = document
    text = path.read_text("utf-8")
    places = (
        ROOT,
        path.parent,
        ROOT / "config",
        ROOT / "docs",
        ROOT / "venues" / "exchange",
        ROOT / "tests" / "venues",
    )
    named = [name for name in FILE.findall(text) if "/" in name and not OF_A_RUN.match(name)]
    missing = [name for name in named if not any((place / name).exists() for place in places)]
    missing += [link for link in LINK.findall(text) if not (path.parent / link).exists()]
    assert not [name for name in missing if not name.startswith(("STATE/", "benchmarks/results"))]


@pytest.mark.parametrize("document", OF_THE_ENGINE, ids=[path.name for path in OF_THE_ENGINE])
def test_settings_that_are_named_exist(document: Path) -> None:
    for dotted in set(SETTING.findall(document.read_text("utf-8"))) - NOT_SETTINGS:
        node: object = Settings()
        for part in dotted.split("."):
            assert hasattr(node, part), dotted
            node = getattr(node, part)


def rows(document: str) -> list[list[str]]:
    text = (ROOT / "docs" / document).read_text("utf-8")
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]


def test_every_message_is_in_the_overview_once() -> None:
    shown = [row[0].strip("`") for row in rows("messages.md")]
    assert sorted(shown) == sorted(message.__name__ for message in get_args(AnyMessage))


@pytest.mark.parametrize("row", rows("messages.md"), ids=lambda row: row[0].strip("`"))
def test_both_ends_of_a_message_name_it(row: list[str]) -> None:
    name = row[0].strip("`")
    for role in (*row[1].split(", "), *row[2].split(", ")):
        files = MODULES.get(role, (f"{role}.py",))
        sources = [(ROOT / "actors" / file).read_text("utf-8") for file in files]
        assert role == "driver" or any(re.search(rf"\b{name}\b", source) for source in sources), (name, role)


def alarm_names() -> set[str]:
    """What the reducers may raise: the literal first argument, or the constant that stands for it."""
    found: set[str] = set()
    for path in (ROOT / "actors").glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        found |= {str(value) for name, value in constants.items() if name.endswith("_ALARM")}
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and node.args
                and ast.unparse(node.func).split(".")[-1] in ("RaiseAlarm", "alarm")
            ):
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
                elif isinstance(first, ast.JoinedStr):
                    found.add(str(first.values[0].value) + "*")  # type: ignore[attr-defined]
    return found


def test_every_alarm_has_a_page_or_a_word() -> None:
    index = (ROOT / "docs" / "halts" / "README.md").read_text("utf-8")
    assert alarm_names() >= {"order_stuck", "divergence.*", "feed_down", "pass_rate"}, "the search sees nothing"
    assert not [name for name in sorted(alarm_names()) if f"`{name}`" not in index]


def test_no_signal_ends_superseded() -> None:
    """The one use there is, is of a stop that the broker would have put back and that stands after all."""
    lines = [line for path in (ROOT / "actors").rglob("*.py") for line in path.read_text("utf-8").splitlines()]
    used = [line.strip() for line in lines if "Outcome.SUPERSEDED" in line]
    assert len(used) == 1, used
    assert '"stop_stands"' in used[0]


def test_every_page_of_a_halt_is_in_the_index_and_says_what_to_do() -> None:
    folder = ROOT / "docs" / "halts"
    index = (folder / "README.md").read_text("utf-8")
    for page in folder.glob("*.md"):
        if page.name != "README.md":
            assert f"({page.name})" in index, page.name
            assert "**What.**" in page.read_text("utf-8")
            assert "**Do.**" in page.read_text("utf-8")


def test_every_reason_that_the_engine_latches_is_in_the_index() -> None:
    index = (ROOT / "docs" / "halts" / "README.md").read_text("utf-8")
    sources = "\n".join(
        path.read_text("utf-8") for folder in ("supervisors", "actors") for path in (ROOT / folder).rglob("*.py")
    )
    for words in ("root supervisor gave up", "halt latch unreadable", "the engine was started"):
        assert words in sources, f"the code says {words!r} no more"
        assert words in index


def test_the_exit_codes_of_the_readme_are_those_of_the_engine() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    shown = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert shown == {int(code) for code in ExitCode}


def test_every_suspicion_has_its_page() -> None:
    index = (ROOT / "docs" / "halts" / "README.md").read_text("utf-8")
    page = (ROOT / "docs" / "halts" / "suspicious_figures.md").read_text("utf-8")
    for name in (market_watch.ROWS_INVALID, market_watch.ROWS_SILENT, market_watch.CLAMPED, market_watch.REFERENCE):
        assert f"`{name}`" in index
        assert f"`{name}`" in page
    for head in (market_watch.STAGE, market_watch.LAG, market_watch.REPEATS):
        assert f"`{head}.*`" in index
        assert f"`{head}." in page
