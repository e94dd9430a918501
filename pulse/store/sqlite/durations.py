"""Reads from an existing SQLite store how long runs took; creates and writes nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from statistics import median
from typing import TYPE_CHECKING

from pulse.clock import SECOND, SystemClock
from pulse.errors import StoreUnavailableError
from pulse.store.sqlite.connection import SqliteConnection, SqliteTexts
from pulse.store.sqlite.read_only import connect_read_only
from pulse.store.sqlite.schema import prefix_of, read_version, refuse_other_version

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.clock import Span

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
    found: dict[str, list[Span]] = {}
    try:
        with contextlib.closing(connect_read_only(path, timeout_us=SECOND)) as raw:
            for task, took_us in _rows(raw, path, prefix_of(name)):
                found.setdefault(task, []).append(took_us)
    except sqlite3.Error as error:
        raise StoreUnavailableError(f"{path}: {error}") from error
    return {task: round(median(lengths)) for task, lengths in found.items()}


def _rows(raw: sqlite3.Connection, path: Path, prefix: str) -> list[tuple[str, Span]]:
    connection = SqliteConnection(raw, SqliteTexts(prefix), SystemClock(), origin=None)
    version = read_version(connection, prefix)
    refuse_other_version(path, version)
    return [] if version is None else connection.execute(_TOOK).fetchall()
