"""What a table loses at a narrow terminal, and what the lines of a run show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.cli.answers import Listing, fitted
from pulse.cli.read import _run_lines
from pulse.core.run import Attempt, Outcome, Run

CELLS = st.text(max_size=60)


@given(
    heads=st.lists(
        st.sampled_from(["task", "state", "by", "late", "run"]), min_size=1, unique=True
    ),
    data=st.data(),
    width=st.integers(60, 200),
)
def test_table_fits_and_keeps_its_rows(heads: list[str], data: st.DataObject, width: int) -> None:
    """The heads keep their order, and each line fits."""
    row = st.lists(CELLS.filter(bool), min_size=len(heads), max_size=len(heads))
    rows = data.draw(st.lists(row, min_size=1, max_size=5))
    found = fitted(Listing(heads, rows, ("by", "late")), width)
    assert len(found.rows) == len(rows)
    assert list(found.heads) == [head for head in heads if head in found.heads]
    for line in (found.heads, *found.rows):
        assert sum(map(len, line)) + 3 * (len(line) - 1) <= width


def test_free_text_is_cut_before_a_column_goes() -> None:
    """A column goes only if too little of the text would be left."""
    listing = Listing(("task", "by", "message"), [("work", "web1:7", "x" * 60)], ("by",))
    assert fitted(listing, 80) == Listing(["task", "by", "message"], [["work", "web1:7", "x" * 60]])
    assert fitted(listing, 40).rows == [["work", "web1:7", "x" * 23 + "…"]]
    assert fitted(listing, 24).rows == [["work", "x" * 16 + "…"]]


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (Attempt(1, 0, 5, Outcome.FAILED, 503, "<!doctype html>\n<p>busy</p>"), "status 503"),
        (
            Attempt(1, 0, 5, Outcome.FAILED, None, "o.py, in view\n  raise\nKeyError: 'a'"),
            "KeyError: 'a'",
        ),
        (Attempt(1, 0, 5, Outcome.ABANDONED, None, "its holder is gone"), "its holder is gone"),
        (Attempt(1, 0, 5, Outcome.ABANDONED, None, ""), ""),
    ],
)
def test_earlier_attempt_shows_why_it_failed(attempt: Attempt, reason: str) -> None:
    """In one line: the status, or the error at the end of a traceback."""
    run = Run(id="1" * 32, task="t", fire_time=0, attempt=2, attempts=(attempt,))
    (line,) = [line for line in _run_lines(run, "UTC") if line.startswith("attempt 1:")]
    assert line.partition(": ")[2].partition(" at ")[0] == attempt.outcome.value
    assert line.endswith(f": {reason}")
