"""The rows that are due, as the stores with SQL read them: from the first, or from further on.

Where several processes want more than there is for one of them, all would read the same rows, and
all but one of them lose what they have planned. So a process that met others may begin further on
in what is due, at some multiple of what it wants, and read what lies before that last.
"""

from __future__ import annotations

MOST_PAGES = 16
"""Over how many times what they want processes spread at most."""

COLUMNS = (
    "due_at, key, task, place, digest, anchor, next_fire, floor, resumed_at, version,"
    " skip_id, words,"
    " (SELECT count(*) FROM @runs r"
    "  WHERE r.task = t.task AND r.place = t.place AND r.outcome IS NULL)"
)
FOUND = (
    "FROM @tasks t WHERE place = ? AND paused = 0 AND archived_at IS NULL AND due_at IS NOT NULL"
)
ORDER = "ORDER BY due_at, key"
DUE = f"SELECT {COLUMNS} {FOUND} {ORDER}"


def pages_for(processes: int) -> int:
    """Return over how many times what they want so many processes spread.

    With more of them fewer would meet, but what has been due for the longest would wait longer.
    """
    return min(max(processes, 2), MOST_PAGES)
