"""Each mark of a known fault is strict, and names its error and its issue."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]
REASON = re.compile(r"issue \d+")


def find_bad_marks(source: str) -> Iterator[str]:
    """Yield one sentence for each incomplete expectation of a failure."""
    tree = ast.parse(source)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "xfail":
            yield from (f"line {node.lineno}: {text}" for text in problems(calls.get(id(node))))
        if isinstance(node, ast.ImportFrom) and "xfail" in {name.name for name in node.names}:
            yield f"line {node.lineno}: expected pytest.mark.xfail, got an import of xfail"


def problems(call: ast.Call | None) -> Iterator[str]:
    """Yield the problems of a call of `pytest.mark.xfail`; None stands for a bare mark."""
    if call is None:
        yield "expected strict=True, raises= and reason='issue N', got a bare mark"
        return
    if not ast.unparse(call.func).endswith("mark.xfail"):
        yield f"expected a mark, got a call of {ast.unparse(call.func)}"
        return
    if call.args:
        yield "expected keywords, got a condition"
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if not is_constant(given.get("strict"), value=True):
        yield "expected strict=True"
    if "raises" not in given or is_constant(given["raises"], value=None):
        yield "expected raises= with the error that shows the fault"
    reason = given.get("reason")
    text = reason.value if isinstance(reason, ast.Constant) else None
    if not (isinstance(text, str) and REASON.fullmatch(text)):
        yield "expected reason='issue N' with the issue that mends the fault"


def is_constant(node: ast.expr | None, *, value: object) -> bool:
    """Return whether an expression is that constant."""
    return isinstance(node, ast.Constant) and node.value is value


def test_every_mark_of_a_known_fault_is_complete() -> None:
    """A strict mark shows when its fault is mended, and the summary counts it for its issue."""
    found = {
        f"{path.relative_to(TESTS)}, {problem}"
        for path in TESTS.rglob("*.py")
        for problem in find_bad_marks(path.read_text())
    }
    assert found == set()


GOOD = "strict=True, raises=AssertionError, reason='issue 10'"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(f"@pytest.mark.xfail({GOOD})\ndef test(): ...", id="decorator"),
        pytest.param(f"known = pytest.mark.xfail({GOOD})", id="name"),
        pytest.param(f"pytest.param(1, marks=[pytest.mark.xfail({GOOD})])", id="parameter"),
        pytest.param(
            f"mark.xfail({GOOD.replace('AssertionError', '(OSError, KeyError)')})", id="two"
        ),
        pytest.param("text = 'pytest.mark.xfail'", id="text"),
    ],
)
def test_complete_mark_is_accepted(source: str) -> None:
    """A mark may be a decorator, a name or a part of a parameter."""
    assert list(find_bad_marks(source)) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("@pytest.mark.xfail\ndef test(): ...", "a bare mark"),
        ("pytest.param(1, marks=pytest.mark.xfail)", "a bare mark"),
        ("pytest.mark.xfail(raises=OSError, reason='issue 1')", "strict=True"),
        ("pytest.mark.xfail(strict=False, raises=OSError, reason='issue 1')", "strict=True"),
        ("pytest.mark.xfail(strict=True, reason='issue 1')", "raises="),
        ("pytest.mark.xfail(strict=True, raises=None, reason='issue 1')", "raises="),
        ("pytest.mark.xfail(strict=True, raises=OSError)", "reason='issue N'"),
        ("pytest.mark.xfail(strict=True, raises=OSError, reason='later')", "reason='issue N'"),
        ("pytest.mark.xfail(strict=True, raises=OSError, reason='issue 1b')", "reason='issue N'"),
        ("pytest.mark.xfail(strict=True, raises=OSError, reason=WHY)", "reason='issue N'"),
        ("pytest.mark.xfail(x, strict=True, raises=OSError, reason='issue 1')", "a condition"),
        ("def test():\n    pytest.xfail('issue 1')", "a call of pytest.xfail"),
        ("from pytest import xfail", "an import of xfail"),
    ],
)
def test_incomplete_mark_is_found(source: str, problem: str) -> None:
    """The sentence names what the mark lacks."""
    (found,) = find_bad_marks(source)
    assert problem in found


@pytest.mark.parametrize(
    ("reasons", "line"),
    [
        ([], "known faults: none"),
        (["issue 11", "issue 9", "issue 11"], "known faults: 1 of issue 9, 2 of issue 11"),
        (["unnumbered"], "known faults: 1 of unnumbered"),
    ],
)
def test_summary_counts_known_faults_by_issue(
    pytestconfig: pytest.Config, reasons: list[str], line: str
) -> None:
    """The issues are in the order of their numbers."""
    (conftest,) = (
        plugin
        for plugin in pytestconfig.pluginmanager.get_plugins()
        if getattr(plugin, "__file__", None) == str(TESTS / "conftest.py")
    )
    assert conftest.known_faults(reasons) == line
