"""Counts and deletes old runs, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Span
    from pulse.core.run_query import RunQuery
    from pulse.store.base import Store

    Progress = Callable[[int], None] | None

PRUNED_AT_ONCE = 500
"""How many runs a step deletes at most."""


def prune_note(query: RunQuery, age: Span) -> str:
    """Return what the audit trail says of a deletion."""
    outcomes = "" if query.states is None else f"{', '.join(sorted(query.states))} "
    return f"{outcomes}runs older than {duration_text(age)}"


def delete_runs(store: Store, query: RunQuery, progress: Progress, *, by: str, note: str) -> int:
    """Delete the ended runs that *query* selects; return how many these were."""
    number = 0
    while True:
        step = store.delete_runs(query, by=by, note=note)
        number += step.number
        if progress is not None:
            progress(number)
        if step.cursor is None:
            return number
        query = msgspec.structs.replace(query, before=step.cursor)


def count_runs(store: Store, query: RunQuery, progress: Progress) -> int:
    """Return how many runs `delete_runs` would delete."""
    number = 0
    while True:
        page = store.history(query)
        number += sum(run.outcome is not None for run in page)
        if progress is not None:
            progress(number)
        if page.cursor is None:
            return number
        query = msgspec.structs.replace(query, before=page.cursor)
