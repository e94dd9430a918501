"""A connection to the SQLite file: translates statements, runs batches with `executemany`."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pulse.store.sql.codec import RUN_COLUMNS
from pulse.store.sql.database import DueRows, Insert
from pulse.store.sql.due_query import DUE, PENDING
from pulse.store.sql.retention import EXCESS, tally_of
from pulse.store.sqlite.log import NO_LOG

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from pulse.clock import Clock, Instant
    from pulse.store.sql.database import Cell, Update
    from pulse.store.sql.due_query import PartitionQuery
    from pulse.store.sqlite.log import FolderStamp, Identity, LogFiles

_MANY_PAGES, _RECLAIMED = 2_000, 500
"""From how many free pages on space is given back, and how many at once: pages of 4 KiB."""

_RUN = f"SELECT {RUN_COLUMNS} FROM @runs WHERE id = ?"  # noqa: S608 - constants alone
_CHUNK = 500
"""The maximum length of a list in one statement; before SQLite 3.32 one had 999 values at most."""


class SqliteTexts(dict["str | Insert | Update", str]):
    """SQL by the statement: `@` is replaced by the prefix of this application's tables.

    Locks of rows are left out: a write locks the whole file.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, statement: str | Insert | Update) -> str:
        text = statement if isinstance(statement, str) else _text_of(statement)
        text = text.replace(" FOR UPDATE", "").replace(" SKIP LOCKED", "")
        self[statement] = text = text.replace("@", self._prefix)
        return text


class SqliteConnection:
    """A connection to the tables of one application in a file.

    Attributes:
        raw: the connection.
        origin: the identity of the file, which may have been moved since.
        log: the identities of the files of its write-ahead log, which may have been deleted since.
        stamp: the state of the folder when file and log were last found to be there.
        unfinished: cursors that may have rows left; they are closed when the transaction ends.

    """

    __slots__ = ("_clock", "_texts", "log", "origin", "raw", "stamp", "unfinished")

    def __init__(
        self,
        raw: sqlite3.Connection,
        texts: SqliteTexts,
        clock: Clock,
        *,
        origin: Identity | None,
        log: LogFiles = NO_LOG,
    ) -> None:
        self.raw: sqlite3.Connection = raw
        self.origin: Identity | None = origin
        self.log: LogFiles = log
        self.stamp: FolderStamp | None = None
        self.unfinished: list[sqlite3.Cursor] = []
        self._texts = texts
        self._clock = clock

    def together(self) -> AbstractContextManager[object]:
        """Do nothing: no statement waits for a server."""
        return nullcontext()

    def clock(self) -> Callable[[], Instant]:
        """Read the wall clock, which all processes of a host share, when its result is called."""
        return self._clock.wall

    def execute(self, text: str, values: Sequence[Cell] = ()) -> sqlite3.Cursor:
        """Execute one statement."""
        return self.raw.execute(self._texts[text], values)

    def select_in(self, text: str, values: Iterable[Cell]) -> Iterator[tuple[Any, ...]]:
        """Return the rows of a statement for all *values*, in lists of bounded length."""
        left = iter(values)
        while chunk := list(islice(left, _CHUNK)):
            yield from self.execute(text.replace("?*", ",".join("?" * len(chunk))), chunk)

    def insert_many(self, insert: Insert, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows."""
        self.raw.executemany(self._texts[insert], rows)

    def update_many(self, update: Update, rows: Iterable[Sequence[Cell]]) -> None:
        """Change rows."""
        self.raw.executemany(self._texts[update], rows)

    def update_returning(self, update: Update, rows: Sequence[Sequence[Cell]]) -> list[bool]:
        """Change rows; return for each whether it existed."""
        text = self._texts[update]
        # A batch is faster than a statement for each row, but gives only the sum of the rows
        # changed. Nearly always that is all of them, so the batch is repeated only if it is not.
        if len(rows) > 1:
            self.raw.execute("SAVEPOINT batch")
            if self.raw.executemany(text, rows).rowcount == len(rows):
                self.raw.execute("RELEASE batch")
                return [True] * len(rows)
            self.raw.execute("ROLLBACK TO batch")
        return [self.raw.execute(text, row).rowcount == 1 for row in rows]

    def update_run(self, text: str, values: Sequence[Cell], ident: str) -> tuple[Any, ...] | None:
        """Change a run by a statement; return its columns as they then are.

        They are read by another statement, as SQLite before 3.35 has no RETURNING; no other call
        writes between both.
        """
        if self.execute(text, values).rowcount != 1:
            return None
        row: tuple[Any, ...] = self.execute(_RUN, (ident,)).fetchone()
        return row

    def delete_tallied(self, where: str, values: Sequence[Cell]) -> None:
        """Delete the runs of a condition, and add them to the tallies; no other call writes now."""
        self.execute(tally_of(f"@runs WHERE {where}"), values)
        self.execute(f"DELETE FROM @runs WHERE {where}", values)  # noqa: S608 - constants alone

    def trim(self, task: str, keep: int) -> None:
        """Delete what a task has too much; nearly always that is nothing of one of the classes."""
        for newest, condition in EXCESS:
            for (seq,) in self.execute(newest, (task, keep)).fetchall():
                self.delete_tallied(f"{condition}?", (task, seq))

    def reclaim(self) -> None:
        """Give free pages back, if they are many, and the file was made for that."""
        free = self.raw.execute("PRAGMA freelist_count").fetchone()[0]
        if free > _MANY_PAGES:
            self.raw.execute(f"PRAGMA incremental_vacuum({_RECLAIMED})").fetchall()

    def ask_due(
        self,
        partitions: Sequence[str],
        *,
        limit: int,  # noqa: ARG002 - the docstring has the reason
        spread: int,  # noqa: ARG002 - the docstring has the reason
    ) -> Callable[[], DueRows]:
        """Read what may be claimed, and the clock.

        SQLite computes rows while they are iterated, so the limit needs no care. Nor is a spread of
        use: a write locks the whole file, whichever rows it changes.
        """
        return partial(self._due_rows, partitions)

    def _due_rows(self, partitions: Sequence[str]) -> DueRows:
        due = self._rows_of(DUE, partitions)
        pending = self._rows_of(PENDING, partitions)
        return DueRows(self._clock.wall(), due, pending)

    def _rows_of(
        self, query: PartitionQuery, partitions: Sequence[str]
    ) -> Iterable[tuple[Any, ...]]:
        text = f"SELECT {query.columns} {query.rows} {query.order}"
        found = [self.execute(text, (partition,)) for partition in partitions]
        self.unfinished += found
        return found[0] if len(found) == 1 else merge(*found, key=itemgetter(*query.sorted_by))


def _text_of(statement: Insert | Update) -> str:
    if isinstance(statement, Insert):
        columns, marks = ", ".join(statement.columns), ",".join("?" * len(statement.columns))
        return f"INSERT INTO {statement.table} ({columns}) VALUES ({marks}) {statement.also}"  # noqa: S608 - the names are constants
    sets = [f"{name} = ?" for name in statement.sets]
    keys = [f"{name} = ?" for name in statement.keys]
    changes = ", ".join(filter(None, [*sets, statement.also]))
    where = " AND ".join(filter(None, [*keys, statement.only]))
    return f"UPDATE {statement.table} SET {changes} WHERE {where}"  # noqa: S608 - the names are constants
