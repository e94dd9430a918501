"""Where a process begins in what is due, when others want the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulse.store.sql.due import start_among


@given(st.integers(0, 2_000), st.integers(1, 200), st.integers(0, 255))
def test_as_much_as_is_wanted_lies_behind_a_start(due: int, limit: int, chance: int) -> None:
    """Where less than that is due the start is the first row."""
    start = start_among(due, limit, chance=chance)
    assert start == 0 or start + limit <= due


def test_processes_begin_at_different_rows() -> None:
    """Each multiple of what is wanted is a beginning."""
    assert {start_among(7, 2, chance=chance) for chance in range(256)} == {0, 2, 4}
