"""Where a process begins in what is due, when others want the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulse.store.postgres.pages import turned

DUE = st.lists(st.integers(0, 20), max_size=30).map(sorted)


@given(DUE, st.integers(0, 20), st.integers(0, 7), st.integers(0, 255))
def test_what_is_due_is_turned_and_what_is_not_stays(
    instants: list[int], now: int, limit: int, chance: int
) -> None:
    """Every row is still there, those that are due come first, the others in their order."""
    rows = [(instant, key) for key, instant in enumerate(instants)]
    found = turned(rows, now, limit, chance=chance)
    due = sum(instant <= now for instant in instants)
    assert sorted(found) == rows
    assert found[due:] == rows[due:]


def test_two_processes_begin_at_different_rows() -> None:
    """Each multiple of what is wanted is a beginning."""
    rows = [(0, key) for key in range(6)]
    begins = {turned(rows, 0, 2, chance=chance)[0][1] for chance in range(256)}
    assert begins == {0, 2, 4}
