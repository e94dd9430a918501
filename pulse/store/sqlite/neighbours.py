"""Finds another file of the default store that holds the tasks of this application.

A new file is then probably that of a new release whose path pulse does not recognise, or that of a
process with another HOME.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from pulse.clock import SECOND, Span
from pulse.store.sqlite.read_only import connect_read_only
from pulse.store.sqlite.schema import prefix_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

MAX_FILES = 50
"""How many files are read, the ones that were changed last."""

_TIMEOUT: Span = SECOND // 10


def find_neighbour(
    path: Path, tasks: Collection[str], *, folders: Sequence[Path], name: str = ""
) -> Path | None:
    """Return another file with the same tasks; None if there is none or *path* exists.

    Tasks are the same if at least half of the names of either side are names of both.

    Args:
        path: the file of this application.
        tasks: the names of its configured tasks.
        folders: where files of this user may lie.
        name: `pulse.config.name`; the files of an application with a name have one file name.

    """
    if not tasks or path.exists():
        return None
    for file in _newest(folders, path.name if name else "*.db"):
        found = declared_tasks(file, name)
        if 2 * len(found.intersection(tasks)) >= max(len(found), len(tasks)):
            return file
    return None


def _newest(folders: Iterable[Path], pattern: str) -> list[Path]:
    dated: list[tuple[float, Path]] = []
    for folder in folders:
        with suppress(OSError):
            dated += [(file.stat().st_mtime, file) for file in folder.glob(pattern)]
    return [file for _, file in sorted(dated, reverse=True)[:MAX_FILES]]


def declared_tasks(file: Path, name: str) -> frozenset[str]:
    """Return the configured tasks of the application *name* in a file.

    Nothing is written, and no log is created. A file that cannot be read, or belongs to another
    program, has no tasks.
    """
    query = (
        f"SELECT task FROM {prefix_of(name)}tasks WHERE source = 'config' AND archived_at IS NULL"  # noqa: S608 - the prefix is made of letters
    )
    with (
        suppress(sqlite3.Error),
        closing(connect_read_only(file, timeout_us=_TIMEOUT)) as connection,
    ):
        return frozenset(name for (name,) in connection.execute(query))
    return frozenset()
