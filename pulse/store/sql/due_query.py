"""The query for tasks that are due, and how far processes that compete for them spread.

If several processes each want more tasks than there are for one of them, all of them read the same
rows, and all but one lose what they have planned. So a process that has met others may start
further on in the due rows, at a multiple of what it wants, and read the rows before that last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.store.sql.database import PartitionQuery

if TYPE_CHECKING:
    from pulse.clock import Instant

MAX_PAGES = 16
"""The maximum of `pages_for`."""

DUE = PartitionQuery(
    columns=(
        "due_at, key, task, place, digest, anchor, next_fire, floor, resumed_at, version,"
        " skip_id, words,"
        " (SELECT count(*) FROM @runs r"
        "  WHERE r.task = t.task AND r.place = t.place AND r.outcome IS NULL)"
    ),
    rows=(
        "FROM @tasks t WHERE place = ? AND paused = 0 AND archived_at IS NULL"
        " AND due_at IS NOT NULL"
    ),
    order="ORDER BY due_at, key",
    sorted_by=(0, 1),
    key=1,
)


class DueTask(NamedTuple):
    """A row of `DUE`: a task with its cursor, and how many of its runs are unfinished."""

    due_at: Instant
    key: int
    task: str
    partition: str
    digest: str
    anchor: Instant
    next_fire: Instant
    last_decided: Instant
    resumed_at: Instant | None
    version: int
    skip_id: str | None
    task_json: str | None
    unfinished: int


def pages_for(processes: int) -> int:
    """Return over how many pages, of the length that each process wants, the processes spread.

    More pages mean fewer conflicts, but the task that has been due for the longest waits longer.
    """
    return min(max(processes, 2), MAX_PAGES)
