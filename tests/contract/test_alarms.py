"""docs/alarms.md against the code: every alarm that is raised is cleared somewhere, or waits for a person."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from kernels import market_watch

ROOT = Path(__file__).resolve().parents[2]
OF_HEALTH = {market_watch.ROWS_INVALID, market_watch.ROWS_SILENT, market_watch.CLAMPED, market_watch.REFERENCE} | {
    f"{head}.*" for head in (market_watch.STAGE, market_watch.LAG, market_watch.REPEATS)
}
"""Raised and cleared by what stands and what does not: `actors/health.py` clears all that no look finds any more."""
BY_SET = {"one_cycle_takes_most", "opportunity_rate_fall", "opportunity_rate_jump", "opportunity_stands"}
"""Of the evaluator, which clears whatever it raised before and does not now."""


class Uses(ast.NodeVisitor):
    """Names that one module raises, clears, and raises for a person."""

    def __init__(self, tree: ast.Module) -> None:
        self.raised: set[str] = set()
        self.cleared: set[str] = set()
        self.for_a_person: set[str] = set()
        self.by_variable = 0
        self.constants = {
            target.id: str(node.value.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self.visit(tree)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).split(".")[-1]
        if called in ("RaiseAlarm", "alarm", "ClearAlarm") and node.args:
            name = self._name(node.args[0])
            if not name:
                self.by_variable += 1
            elif called == "ClearAlarm":
                self.cleared.add(name)
            else:
                self.raised.add(name)
                if any(one.arg == "for_a_person" for one in node.keywords):
                    self.for_a_person.add(name)
        self.generic_visit(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        """`ClearAlarm(name) for name in (A, B)`."""
        if isinstance(node.elt, ast.Call) and ast.unparse(node.elt.func) == "ClearAlarm":
            over = node.generators[0].iter
            if isinstance(over, ast.Tuple):
                self.cleared |= {name for one in over.elts if (name := self._name(one))}
        self.generic_visit(node)

    def _name(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.Name):
            return self.constants.get(node.id, "")
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            return f"{node.values[0].value}*"
        return ""


def used() -> tuple[set[str], set[str], set[str]]:
    """Names raised, cleared, and raised for a person, over all reducers."""
    uses = [Uses(ast.parse(path.read_text("utf-8"))) for path in sorted((ROOT / "actors").glob("*.py"))]
    raised = set().union(*(one.raised for one in uses)) | BY_SET | OF_HEALTH
    cleared = set().union(*(one.cleared for one in uses)) | BY_SET | OF_HEALTH
    return raised, cleared, set().union(*(one.for_a_person for one in uses))


def shown() -> dict[str, str]:
    """The table: name → when it is over."""
    text = (ROOT / "docs" / "alarms.md").read_text("utf-8")
    found = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[3] for row in found}


def test_every_alarm_that_is_raised_is_in_the_table_and_no_other() -> None:
    raised, _, _ = used()
    assert raised >= {"order_stuck", "incident.*", "cycle_held", "pass_rate", "lag.*"}, "the search sees nothing"
    assert set(shown()) == raised


def test_every_alarm_is_cleared_by_its_own_condition_or_waits_for_a_person() -> None:
    raised, cleared, for_a_person = used()
    assert {"incident.*", "intent_expired", "surfaced"} <= for_a_person, "the search sees nothing"
    assert raised - cleared - for_a_person == set()
    assert cleared - raised == set(), "cleared and never raised"


def test_the_table_says_of_just_those_that_they_are_acknowledged() -> None:
    _, _, for_a_person = used()
    assert {name for name, over in shown().items() if over.startswith("acknowledged")} == for_a_person
