"""Reads from an existing SQLite store how long runs took; creates and writes nothing."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from pulse.store.sqlite.database import peek
from pulse.store.sqlite.schema import prefix_of, read_version, refuse_other_version

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.clock import Span
    from pulse.store.sqlite.connection import SqliteConnection

_TOOK = """SELECT task, took_us FROM @runs
    WHERE took_us IS NOT NULL AND outcome IN ('succeeded', 'failed', 'timed_out')"""


def median_durations(path: Path, name: str) -> dict[str, Span]:
    """Return the median duration of the finished runs of each task, without lost runs.

    Args:
        path: a file that exists.
        name: `pulse.config.name`; without tables of that name in the file the result is empty.

    Raises:
        StoreSchemaError: the file has a layout that this version cannot read.
        StoreUnavailableError: the file cannot be read.

    """
    prefix = prefix_of(name)
    found: dict[str, list[Span]] = {}
    with peek(path, prefix=prefix) as connection:
        for task, took_us in _rows(connection, path, prefix):
            found.setdefault(task, []).append(took_us)
    return {task: round(median(lengths)) for task, lengths in found.items()}


def _rows(connection: SqliteConnection, path: Path, prefix: str) -> list[tuple[str, Span]]:
    version = read_version(connection, prefix)
    refuse_other_version(path, version)
    return [] if version is None else connection.execute(_TOOK).fetchall()
