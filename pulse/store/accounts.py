"""The ledger of a task, and the explanation of an instant, from a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.accounting.ledger import make_ledger
from pulse.accounting.why import explain
from pulse.core.run_query import RunQuery

if TYPE_CHECKING:
    from pulse.accounting.ledger import Ledger
    from pulse.accounting.why import Explanation
    from pulse.clock import Instant, Span
    from pulse.core.records import TaskRecords
    from pulse.core.run import Run
    from pulse.store.steering import Steering

_PAGE = 1_000


def account(
    store: Steering, task: str, *, since: Instant | None = None, until: Instant | None = None
) -> Ledger:
    """Return the ledger of a task."""
    records, runs = _read(store, task)
    return make_ledger(task, records, runs, since=since, until=until)


def why(store: Steering, task: str, instant: Instant, *, within: Span) -> list[Explanation]:
    """Return what is on record about an instant of a task."""
    records, runs = _read(store, task)
    return explain(task, instant, records, runs, within=within)


def _read(store: Steering, task: str) -> tuple[TaskRecords, list[Run]]:
    """Return what is recorded about a task.

    Other processes work meanwhile. The positions are older than the runs, so that no fire time is
    missing that was decided later; the tallies are newer, so that no run is missing that was
    deleted meanwhile.
    """
    before = store.records(task)
    runs: list[Run] = []
    cursor: int | None = None
    while True:
        page = store.history(RunQuery(task=task, before=cursor, limit=_PAGE))
        runs += page
        cursor = page.cursor
        if cursor is None:
            break
    after = store.records(task)
    return msgspec.structs.replace(after, now=before.now, positions=before.positions), runs
