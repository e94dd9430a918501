"""Reads the log of the evidence app and the history of the store, and checks them."""

import json
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple


class Note(NamedTuple):
    """One line that the app wrote."""

    what: str
    at: float
    pid: int
    task: str
    fire_time: str
    run: str
    trigger: str


def read_notes(path: Path) -> list[Note]:
    """Return the app's lines, oldest first."""
    if not path.exists():
        return []
    return [Note(**json.loads(line)) for line in path.read_text().splitlines()]


def begins(notes: list[Note]) -> list[Note]:
    """Return the starts of runs."""
    return [note for note in notes if note.what == "begin"]


def unfinished(notes: list[Note], *, killed: set[int]) -> list[Note]:
    """Return the runs that started in a process that was not killed and have no end."""
    ended = {note.run for note in notes if note.what == "end"}
    return [note for note in begins(notes) if note.run not in ended and note.pid not in killed]


def overlapping(notes: list[Note]) -> list[tuple[Note, Note]]:
    """Return the pairs of neighbouring runs of which the second began before the first ended.

    A run without an end counts as ended when it began: its process was killed.
    """
    ends = {note.run: note.at for note in notes if note.what == "end"}
    runs = sorted(begins(notes), key=lambda note: note.at)
    return [(a, b) for a, b in pairwise(runs) if b.at < ends.get(a.run, a.at)]


def grid_between(first: str, last: str, every_s: float) -> list[str]:
    """Return all fire times of an interval as text, computed without pulse."""
    moment, stop = datetime.fromisoformat(first), datetime.fromisoformat(last)
    found = []
    while moment <= stop:
        found.append(moment)
        moment += timedelta(seconds=every_s)
    return [text_of(moment) for moment in found]


def text_of(moment: datetime) -> str:
    """Return RFC 3339 in UTC, as in the headers."""
    return moment.isoformat().replace("+00:00", "Z")


def stored_runs(path: Path) -> list[dict]:
    """Return the rows of every runs table in the SQLite file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if row[0].endswith("runs")
        ]
        found = [connection.execute(f'SELECT * FROM "{table}"') for table in tables]  # noqa: S608 - names that the file itself holds
        return [dict(row) for rows in found for row in rows]
