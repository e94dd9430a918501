"""Over how much of what is due processes spread that want the same."""

from __future__ import annotations

from pulse.store.sql.due_query import MOST_PAGES, pages_for


def test_there_are_as_many_beginnings_as_processes() -> None:
    """At least two, and not more than are cheap to look over."""
    assert [pages_for(count) for count in (1, 4, 100)] == [2, 4, MOST_PAGES]
