"""The number of pages over which competing processes spread."""

from __future__ import annotations

from pulse.store.sql.due_query import MAX_PAGES, pages_for


def test_pages_are_as_many_as_processes() -> None:
    """There are two at least, and `MAX_PAGES` at most."""
    assert [pages_for(count) for count in (1, 4, 100)] == [2, 4, MAX_PAGES]
