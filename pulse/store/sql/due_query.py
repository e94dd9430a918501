"""The query for tasks that are due, and how far processes that compete for them spread.

If several processes each want more tasks than there are for one of them, all of them read the same
rows, and all but one lose what they have planned. So a process that has met others may start
further on in the due rows, at a multiple of what it wants, and read the rows before that last.
"""

from __future__ import annotations

from typing import NamedTuple

from pulse.store.sql.codec import CLAIM_COLUMNS, RUN_NAMES, RUN_WIDTH, TASK_COLUMNS, TASK_FIELDS


class PartitionQuery(NamedTuple):
    """A query for the rows of one partition, whose name is its only value.

    Attributes:
        columns: the list of SELECT.
        rows: FROM and WHERE.
        order: ORDER BY.
        sorted_by: the positions in a row of the columns of *order*, counted from 0.
        key: the position of the column that identifies a row.

    """

    columns: str
    rows: str
    order: str
    sorted_by: tuple[int, int]
    key: int


MAX_PAGES = 16
"""The maximum of `pages_for`."""

UNFINISHED = (
    "(SELECT count(*) FROM @runs r WHERE r.task = t.task AND r.place = t.place"
    " AND r.outcome IS NULL)"
)
"""How many runs of a row of `@tasks t` are unfinished."""

_CLAIMED = (
    "(SELECT count(*) FROM @runs h WHERE h.task = t.task AND h.place = t.place"
    " AND h.outcome IS NULL AND h.holder <> '')"
)
DUE = PartitionQuery(
    # Only a task that may have several unfinished runs can have one that waits for a claimed one.
    columns=f"{CLAIM_COLUMNS}, {UNFINISHED}, CASE WHEN t.room > 1 THEN {_CLAIMED} ELSE 0 END",
    rows=(
        "FROM @tasks t WHERE place = ? AND paused = 0 AND archived_at IS NULL"
        " AND due_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM @fleet_pause)"
    ),
    order="ORDER BY due_at, key",
    sorted_by=(TASK_FIELDS.index("due_at"), TASK_FIELDS.index("order")),
    key=TASK_FIELDS.index("order"),
)
"""Rows of tasks that have work: `CLAIM_COLUMNS`, then how many runs are unfinished and claimed."""

PENDING = PartitionQuery(
    columns=f"{', '.join('r.' + name for name in RUN_NAMES)}, r.seq, {TASK_COLUMNS}, {_CLAIMED}",
    rows=(
        "FROM @runs r JOIN @tasks t ON t.task = r.task AND t.place = r.place"
        " WHERE r.outcome IS NULL AND r.holder = '' AND r.place = ? AND t.archived_at IS NULL"
    ),
    order="ORDER BY retry_at, seq",
    sorted_by=(RUN_NAMES.index("retry_at"), RUN_WIDTH),
    key=0,
)
"""Pending runs: `RUN_COLUMNS`, their sequence number, then as the rows of `DUE`."""


def pages_for(processes: int) -> int:
    """Return over how many pages, of the length that each process wants, the processes spread.

    More pages mean fewer conflicts, but the task that has been due for the longest waits longer.
    """
    return min(max(processes, 2), MAX_PAGES)
