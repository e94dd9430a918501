"""One connection to the file: statements in SQLite's own spelling, batches as `executemany`."""

from __future__ import annotations

from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pulse.store.sql.database import DueRows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from pulse.clock import Clock, Instant
    from pulse.store.sql.database import Cell, DueQuery, Insert, PartitionQuery, Update

    Identity = tuple[int, int]

_CHUNK = 500
"""How many values a list holds at most."""


class SqliteTexts(dict[str, str]):
    """SQL with the tables' real names; `@runs` is the table of runs of this application.

    Locks of rows are left out: a write locks the whole file.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, text: str) -> str:
        real = text.replace("@", self._prefix)
        self[text] = real = real.replace(" FOR UPDATE", "").replace(" SKIP LOCKED", "")
        return real


class SqliteConnection:
    """One connection that speaks of one application's tables, and the file it leads to.

    Attributes:
        raw: the connection.
        origin: the identity of the file.
        unfinished: cursors that may have rows left; they are closed when the transaction ends.

    """

    __slots__ = ("_clock", "_texts", "origin", "raw", "unfinished")

    def __init__(
        self, raw: sqlite3.Connection, texts: SqliteTexts, clock: Clock, *, origin: Identity | None
    ) -> None:
        self.raw: sqlite3.Connection = raw
        self.origin: Identity | None = origin
        self.unfinished: list[sqlite3.Cursor] = []
        self._texts = texts
        self._clock = clock

    def now(self) -> Instant:
        """Return the wall clock, which all processes of a host share."""
        return self._clock.wall()

    def execute(self, text: str, values: Sequence[Cell] = ()) -> sqlite3.Cursor:
        """Execute one statement."""
        return self.raw.execute(self._texts[text], values)

    def select_in(self, text: str, values: Iterable[Cell]) -> Iterator[tuple[Any, ...]]:
        """Return what a statement says of all *values*, asked in bounded lists."""
        left = iter(values)
        while chunk := list(islice(left, _CHUNK)):
            yield from self.execute(text.replace("?*", ",".join("?" * len(chunk))), chunk)

    def insert_many(self, insert: Insert, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows."""
        columns = insert.columns
        marks = ",".join("?" * len(columns))
        self._run_many(f"INSERT INTO {insert.table} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608 - the names are constants

    def update_many(self, update: Update, rows: Iterable[Sequence[Cell]]) -> None:
        """Change rows."""
        self._run_many(_text_of(update), rows)

    def update_returning(self, update: Update, rows: Sequence[Sequence[Cell]]) -> list[bool]:
        """Change rows; return for each whether it was there."""
        # Nearly always every row is there: then one batch does, and need not tell them apart.
        text = _text_of(update)
        self.execute("SAVEPOINT batch")
        if self._run_many(text, rows) == len(rows):
            self.execute("RELEASE batch")
            return [True] * len(rows)
        self.execute("ROLLBACK TO batch")
        return [self.execute(text, row).rowcount == 1 for row in rows]

    def read_due(self, query: DueQuery) -> DueRows:
        """Read what may be claimed, and the clock.

        SQLite computes rows while they are iterated, so the limit needs no care. Nor is a spread of
        use: a write locks the whole file, whichever rows it changes.
        """
        return DueRows(
            self._clock.wall(),
            self._rows_of(query.due, query.partitions),
            self._rows_of(query.pending, query.partitions),
        )

    def _rows_of(
        self, query: PartitionQuery, partitions: Sequence[str]
    ) -> Iterable[tuple[Any, ...]]:
        text = f"SELECT {query.columns} {query.rows} {query.order}"
        found = [self.execute(text, (partition,)) for partition in partitions]
        self.unfinished += found
        return found[0] if len(found) == 1 else merge(*found, key=itemgetter(*query.sorted_by))

    def _run_many(self, text: str, rows: Iterable[Sequence[Cell]]) -> int:
        return self.raw.executemany(self._texts[text], rows).rowcount


def _text_of(update: Update) -> str:
    sets = ", ".join([*(f"{name} = ?" for name in update.sets), *filter(None, [update.also])])
    where = " AND ".join([*(f"{name} = ?" for name in update.keys), *filter(None, [update.only])])
    return f"UPDATE {update.table} SET {sets} WHERE {where}"  # noqa: S608 - the names are constants
