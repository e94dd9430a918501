"""Finds another file of the default store that holds the tasks of this application.

A new file beside it is probably that of a new release whose path pulse does not recognise.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from pulse.store.sqlite.schema import prefix_of

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

MAX_FILES = 50
"""How many files are read, the ones that were changed last."""

_TIMEOUT_S = 0.1


def find_neighbour(path: Path, tasks: Collection[str]) -> Path | None:
    """Return a file beside *path* with the same tasks; None if there is none or *path* exists.

    Tasks are the same if at least half of the names of either side are names of both.

    Args:
        path: the file of this application, which has no name.
        tasks: the names of its configured tasks.

    """
    if not tasks or path.exists():
        return None
    for file in _newest(path.parent):
        found = declared_tasks(file)
        if 2 * len(found.intersection(tasks)) >= max(len(found), len(tasks)):
            return file
    return None


def _newest(folder: Path) -> list[Path]:
    dated: list[tuple[float, Path]] = []
    with suppress(OSError):
        dated = [(file.stat().st_mtime, file) for file in folder.glob("*.db")]
    return [file for _, file in sorted(dated, reverse=True)[:MAX_FILES]]


def declared_tasks(file: Path) -> frozenset[str]:
    """Return the configured tasks in the file of an application without a name.

    Nothing is written. A file that cannot be read, or belongs to another program, has no tasks.
    """
    import sqlite3

    query = f"SELECT task FROM {prefix_of('')}tasks WHERE source = 'config' AND archived_at IS NULL"  # noqa: S608 - the prefix is a constant
    with suppress(sqlite3.Error):
        uri = f"file:{quote(str(file))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_TIMEOUT_S)) as connection:
            return frozenset(name for (name,) in connection.execute(query))
    return frozenset()
