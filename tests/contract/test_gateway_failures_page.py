"""The page of what can go wrong with the gateway: what it names is there, and what can go wrong is on it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.chaos.engine_process import ROOT
from venues.gateway.faults import KINDS

PAGE = ROOT / "docs" / "gateway_failures.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS = [line for line in PAGE.read_text("utf-8").splitlines() if TEST.search(line)]
CODES = (
    *(100, 103, 104, 105, 110, 135, 161, 162, 200, 201, 202, 321, 326, 399, 404, 420, 451, 460, 502, 504),
    *(1100, 1101, 1102, 2103, 2105, 2107, 2108, 2109, 2110, 2119, 2157, 10006, 10147, 10148, 10197, 10311, 10349),
)
"""Of the errors that a client of TWS must expect, those that tell a failure."""


def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("file", sorted({file for file, _ in TEST.findall(PAGE.read_text("utf-8"))}))
def test_every_test_that_is_named_is_there(file: str) -> None:
    named = {name for found, name in TEST.findall(PAGE.read_text("utf-8")) if found == file}
    assert named
    assert not named - functions(file)


def test_every_failure_has_a_page_for_a_person() -> None:
    assert len(ROWS) > 50
    assert not [row for row in ROWS if not re.search(r"\]\([\w/]+\.md\) \|$", row)]


def test_every_fault_of_the_gateway_and_every_code_of_a_failure_is_on_it() -> None:
    text = PAGE.read_text("utf-8")
    assert not [kind for kind in KINDS if f"`{kind}`" not in text]
    first = " ".join(row.split("|")[1] for row in ROWS)
    assert not [code for code in CODES if not re.search(rf"\b{code}\b", first)]
