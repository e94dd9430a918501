"""A connection to the server: translates statements, runs batches with arrays.

A batch is one statement: each column is one array, or one value if all its values are equal. Inside
a pipeline only a result that is read is waited for.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pulse.store.postgres.arrays import literal, plain
from pulse.store.postgres.due_query import CLOCK, ask_due
from pulse.store.postgres.schema import type_of
from pulse.store.sql.codec import RUN_COLUMNS
from pulse.store.sql.database import Insert, Update
from pulse.store.sql.retention import EXCESS, TRIM, delete_and_tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from pulse.clock import Instant
    from pulse.store.postgres.driver import BoundedConnection
    from pulse.store.sql.database import Cell, DueRows, QueryResult

T = TypeVar("T")

LONGEST_BATCH = 10_000
_NOW = f"SELECT {CLOCK}"


class Batch(NamedTuple):
    """A statement for many rows.

    Attributes:
        statement: what it does with each row.
        equal: for each column, whether all rows have the same value.
        returns: whether it returns the keys of the rows that it has changed.

    """

    statement: Insert | Update
    equal: tuple[bool, ...]
    returns: bool = False


class PostgresTexts(dict["str | Batch", bytes]):
    """SQL by the statement: `@` is replaced by the schema of this application."""

    def __init__(self, schema: str) -> None:
        super().__init__()
        self._schema = schema

    def __missing__(self, statement: str | Batch) -> bytes:
        text = statement if isinstance(statement, str) else _text_of(statement)
        text = text.replace("@", f"{self._schema}.").replace("IN (?*)", "= ANY(?)")
        self[statement] = encoded = text.replace("?", "%s").encode()
        return encoded


class PostgresConnection:
    """A connection to the tables of one application.

    Args:
        raw: the connection of psycopg.
        texts: translates statements.
        given_now: returns the time that replaces the server's clock in a test, else None.

    """

    __slots__ = ("_given_now", "_texts", "raw")

    def __init__(
        self, raw: BoundedConnection, texts: PostgresTexts, given_now: Callable[[], Instant | None]
    ) -> None:
        self.raw: BoundedConnection = raw
        self._texts = texts
        self._given_now = given_now

    def transact(
        self, begin: Iterable[str], work: Callable[[PostgresConnection], T], *, lock: str = ""
    ) -> T:
        """Return what *work* returns, within a transaction that is a pipeline.

        The statement *lock* is sent before the pipeline, together with *begin*: no process may be
        stopped while it has the lock and the server waits for the rest of the pipeline.
        """
        if lock:
            self.execute("; ".join((*begin, lock)))
            begin = ()
        with self.raw.pipeline():
            for text in begin:
                self.execute(text)
            result = work(self)
            self.execute("COMMIT")
        return result

    def together(self) -> AbstractContextManager[object]:
        """Send all statements of a block before the first of their results is read."""
        return self.raw.pipeline() if self.raw.piped is None else nullcontext()

    def clock(self) -> Callable[[], Instant]:
        """Read the server's clock."""
        found = self.execute(_NOW, (self._given_now(),))
        return lambda: next(iter(found))[0]

    def execute(self, text: str | Batch, values: Sequence[Cell] = ()) -> QueryResult:
        """Execute one statement."""
        cells = [plain(one) if isinstance(one, str) else one for one in values]
        return self.raw.execute(self._texts[text], cells or None)

    def select_in(self, text: str, values: Iterable[Cell]) -> Iterable[tuple[Any, ...]]:
        """Return the rows of a statement for all *values*."""
        cells = list(values)
        return self.execute(text, (literal(cells),)) if cells else ()

    def insert_many(self, insert: Insert, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows; a duplicate key is an error at the end of the pipeline."""
        for equal, values in _batches(rows):
            self.execute(Batch(insert, equal), values)

    def delete_tallied(self, where: str, values: Sequence[Cell]) -> None:
        """Delete the runs of a condition, and add them to the tallies, in one statement."""
        self.execute(delete_and_tally(where), values)

    def trim(self, task: str, keep: int) -> None:
        """Delete what a task has too much, in one statement: nothing is awaited."""
        self.delete_tallied(TRIM, (task, task, keep) * len(EXCESS))

    def reclaim(self) -> None:
        """Do nothing: the server cleans up by itself."""

    def update_many(self, update: Update, rows: Iterable[Sequence[Cell]]) -> None:
        """Change rows."""
        for equal, values in _batches(rows):
            self.execute(Batch(update, equal), values)

    def update_returning(self, update: Update, rows: Sequence[Sequence[Cell]]) -> list[bool]:
        """Change rows; return for each whether it existed, the first of equal keys only."""
        width = len(update.sets)
        first: dict[tuple[Cell, ...], int] = {}
        for place, row in enumerate(rows):
            first.setdefault(tuple(row[width:]), place)
        changed = [False] * len(rows)
        for equal, values in _batches(rows[place] for place in first.values()):
            for found in self.execute(Batch(update, equal, returns=True), values):
                changed[first[found]] = True
        return changed

    def update_run(
        self,
        text: str,
        values: Sequence[Cell],
        ident: str,  # noqa: ARG002 - the statement names the run
    ) -> tuple[Any, ...] | None:
        """Change a run and return its columns as they then are, in one statement."""
        return self.execute(f"{text} RETURNING {RUN_COLUMNS}", values).fetchone()

    def ask_due(
        self, partitions: Sequence[str], *, limit: int, spread: int
    ) -> Callable[[], DueRows]:
        """Read what may be claimed, and the clock, in one round trip where no run is pending."""
        return ask_due(self, partitions, limit=limit, spread=spread, given_now=self._given_now())


def _batches(rows: Iterable[Sequence[Cell]]) -> Iterator[tuple[tuple[bool, ...], list[Cell]]]:
    """Yield which columns have equal values, and the values, in batches of bounded length.

    Equal values are sent once, before the arrays. The last column is an array if no other one is,
    because `unnest` gives the number of rows.
    """
    left = list(rows)
    for start in range(0, len(left), LONGEST_BATCH):
        columns = [*zip(*left[start : start + LONGEST_BATCH], strict=True)]
        equal = [one[0] == one[-1] and one.count(one[0]) == len(one) for one in columns]
        equal[-1] = equal[-1] and not all(equal)
        once = [one[0] for one, is_equal in zip(columns, equal, strict=True) if is_equal]
        arrays = [
            literal(one) for one, is_equal in zip(columns, equal, strict=True) if not is_equal
        ]
        yield tuple(equal), [*once, *arrays]


def _text_of(batch: Batch) -> str:
    statement = batch.statement
    if isinstance(statement, Insert):
        source, terms = _source(statement.columns, batch.equal)
        names = ", ".join(statement.columns)
        text = f"INSERT INTO {statement.table} ({names}) SELECT {', '.join(terms)} FROM {source}"  # noqa: S608 - the names are constants
        return f"{text} {statement.also}"
    source, terms = _source((*statement.sets, *statement.keys), batch.equal)
    keys = terms[len(statement.sets) :]
    sets = [f"{name} = {term}" for name, term in zip(statement.sets, terms, strict=False)]
    same = [f"r.{name} = {term}" for name, term in zip(statement.keys, keys, strict=True)]
    changes = ", ".join(filter(None, [*sets, statement.also]))
    where = " AND ".join(filter(None, [*same, statement.only]))
    text = f"UPDATE {statement.table} AS r SET {changes} FROM {source} WHERE {where}"  # noqa: S608 - the names are constants
    return f"{text} RETURNING {', '.join(keys)}" if batch.returns else text


def _source(names: Sequence[str], equal: Sequence[bool]) -> tuple[str, list[str]]:
    """Return what a batch selects from, and the SQL of each column.

    The result is `(SELECT ?::text AS c1) AS k, unnest(?::bigint[]) AS n(c2)` with `k.c1`, `n.c2`.
    """
    columns = [*zip(names, equal, (f"c{place}" for place in count(1)), strict=False)]
    once = [f"?::{type_of(name)} AS {alias}" for name, is_equal, alias in columns if is_equal]
    arrays = [f"?::{type_of(name)}[]" for name, is_equal, _ in columns if not is_equal]
    aliases = [alias for _, is_equal, alias in columns if not is_equal]
    source = f"unnest({', '.join(arrays)}) AS n({', '.join(aliases)})"
    if once:
        source = f"(SELECT {', '.join(once)}) AS k, {source}"
    return source, [f"{'k' if is_equal else 'n'}.{alias}" for _, is_equal, alias in columns]
