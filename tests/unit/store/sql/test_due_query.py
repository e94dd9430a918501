"""The range of offsets at which processes start to read due rows."""

from __future__ import annotations

from pulse.store.sql.due_query import MOST_PAGES, pages_for


def test_number_of_offsets_follows_the_number_of_processes() -> None:
    """It is at least two, and limited, since the rows before an offset are read as well."""
    assert [pages_for(count) for count in (1, 4, 100)] == [2, 4, MOST_PAGES]
