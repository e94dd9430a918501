"""A connection to the server: translates statements, runs batches with arrays.

A batch of any length is one statement: each column is one array, or one value if all its values are
equal. Inside a pipeline only a result that is read is waited for.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pulse.store.postgres.arrays import literal, plain
from pulse.store.postgres.due_query import CLOCK, read_due
from pulse.store.postgres.schema import type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from pulse.clock import Instant
    from pulse.store.postgres.driver import BoundedConnection
    from pulse.store.sql.database import Cell, DueRows, Insert, QueryResult, Update

    Column = Sequence[Cell]

LONGEST_BATCH = 10_000
_NOW = f"SELECT {CLOCK}"


class PostgresTexts(dict[str, bytes]):
    """SQL by the statement: `@` is replaced by the schema of this application."""

    def __init__(self, schema: str) -> None:
        super().__init__()
        self._schema = schema

    def __missing__(self, text: str) -> bytes:
        real = text.replace("@", f"{self._schema}.").replace("IN (?*)", "= ANY(?)")
        self[text] = encoded = real.replace("?", "%s").encode()
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

    def together(self) -> AbstractContextManager[object]:
        """Send all statements of a block before the first of their results is read."""
        return self.raw.pipeline() if self.raw.piped is None else nullcontext()

    def clock(self) -> Callable[[], Instant]:
        """Read the server's clock."""
        found = self.execute(_NOW, (self._given_now(),))
        return lambda: next(iter(found))[0]

    def execute(self, text: str, values: Sequence[Cell] = ()) -> QueryResult:
        """Execute one statement."""
        cells = [plain(one) if isinstance(one, str) else one for one in values]
        return self.raw.execute(self._texts[text], cells or None)

    def select_in(self, text: str, values: Iterable[Cell]) -> Iterable[tuple[Any, ...]]:
        """Return the rows of a statement for all *values*."""
        cells = list(values)
        return self.execute(text, (literal(cells),)) if cells else ()

    def insert_many(self, insert: Insert, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows; in a pipeline, a duplicate key is an error at its end."""
        names = ", ".join(insert.columns)
        for columns in _columns(rows):
            source, terms, values = _source(insert.columns, columns)
            text = f"INSERT INTO {insert.table} ({names}) SELECT {', '.join(terms)} FROM {source}"  # noqa: S608 - the names are constants
            self.execute(text, values)

    def update_many(self, update: Update, rows: Iterable[Sequence[Cell]]) -> None:
        """Change rows."""
        for columns in _columns(rows):
            text, _, values = _update_text(update, columns)
            self.execute(text, values)

    def update_returning(self, update: Update, rows: Sequence[Sequence[Cell]]) -> list[bool]:
        """Change rows; return for each whether it existed, the first of equal keys only."""
        width = len(update.sets)
        first: dict[tuple[Cell, ...], int] = {}
        for place, row in enumerate(rows):
            first.setdefault(tuple(row[width:]), place)
        changed = [False] * len(rows)
        for columns in _columns(rows[place] for place in first.values()):
            text, keys, values = _update_text(update, columns)
            for found in self.execute(f"{text} RETURNING {keys}", values):
                changed[first[found]] = True
        return changed

    def read_due(self, partitions: Sequence[str], *, limit: int, spread: int) -> DueRows:
        """Read what may be claimed, and the clock, in one round trip where no run is pending."""
        return read_due(self, partitions, limit=limit, spread=spread, given_now=self._given_now())


def _columns(rows: Iterable[Sequence[Cell]]) -> Iterator[list[Column]]:
    """Yield the columns of all rows, in batches of bounded length."""
    left = list(rows)
    for start in range(0, len(left), LONGEST_BATCH):
        yield list(zip(*left[start : start + LONGEST_BATCH], strict=True))


def _update_text(update: Update, columns: Sequence[Column]) -> tuple[str, str, list[Cell]]:
    """Return the statement that changes a batch, the SQL of its keys, and its values."""
    source, terms, values = _source((*update.sets, *update.keys), columns)
    width = len(update.sets)
    pairs = zip(update.sets, terms[:width], strict=True)
    same = zip(update.keys, terms[width:], strict=True)
    sets = ", ".join([*(f"{name} = {term}" for name, term in pairs), *filter(None, [update.also])])
    where = " AND ".join(
        [*(f"r.{name} = {term}" for name, term in same), *filter(None, [update.only])]
    )
    text = f"UPDATE {update.table} AS r SET {sets} FROM {source} WHERE {where}"  # noqa: S608 - the names are constants
    return text, ", ".join(terms[width:]), values


def _source(names: Sequence[str], columns: Sequence[Column]) -> tuple[str, list[str], list[Cell]]:
    """Return what a batch selects from, the SQL of each column, and the values.

    The result is `(SELECT ?::text AS c1) AS k, unnest(?::bigint[]) AS n(c2)`: equal values are sent
    once, as `k.c1`, and the others as arrays. The last column is an array if no other one is,
    because `unnest` gives the number of rows.
    """
    single: list[str] = []
    arrays: list[str] = []
    aliases: list[str] = []
    terms: list[str] = []
    equal: list[Cell] = []
    values: list[Cell] = []
    for place, (name, cells) in enumerate(zip(names, columns, strict=True), 1):
        kind = type_of(name)
        if cells.count(cells[0]) == len(cells) and (arrays or place < len(columns)):
            single.append(f"?::{kind} AS c{place}")
            terms.append(f"k.c{place}")
            equal.append(cells[0])
        else:
            arrays.append(f"?::{kind}[]")
            aliases.append(f"c{place}")
            terms.append(f"n.c{place}")
            values.append(literal(cells))
    source = f"unnest({', '.join(arrays)}) AS n({', '.join(aliases)})"
    if single:
        source = f"(SELECT {', '.join(single)}) AS k, {source}"
    return source, terms, [*equal, *values]
