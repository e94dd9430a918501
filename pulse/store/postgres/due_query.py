"""Reads due tasks in pages; the first page, which usually suffices, also gives the server's clock.

Rows are locked, moved and deleted by other processes between two pages. A page is read by its
offset, so a row may appear on two pages (it is then returned once) or on none (it is then found by
the next call).
"""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING, Any

from pulse.store.postgres.arrays import literal
from pulse.store.sql.database import DueRows
from pulse.store.sql.due_query import DUE, PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pulse.clock import Instant
    from pulse.store.sql.database import Cell, Connection
    from pulse.store.sql.due_query import PartitionQuery

    Row = tuple[Any, ...]

CLOCK = "coalesce(?::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)"
"""The server's clock, unless a test gives another instant."""

SPARE = 8
"""How many rows a page has beyond the rows that are wanted: other processes may own some."""

_GROWTH = 4
_FIRST_PAGE = (
    f"WITH c AS MATERIALIZED (SELECT {CLOCK} AS now,"  # noqa: S608 - constants alone
    " (SELECT min(retry_at) FROM @runs WHERE outcome IS NULL AND holder = '' AND place IN (?*)))"
    " SELECT c.*, d.* FROM c LEFT JOIN ({}) AS d ON true ORDER BY {}"
)
_PAGE = "SELECT * FROM ({}) AS u ORDER BY {} LIMIT ? OFFSET ?"
_CLOCK_ALONE = _FIRST_PAGE.format("SELECT NULL::bigint WHERE false", 1)

_SPREAD = (
    f"SELECT {DUE.columns} FROM (SELECT * {DUE.rows} {DUE.order} OFFSET"  # noqa: S608 - constants alone
    " mod(?::bigint, greatest(1,"
    f" (SELECT count(*) FROM (SELECT {DUE.rows} AND due_at <= (SELECT now FROM c)"
    " LIMIT ?::bigint) n)"
    f" / ?::bigint)) * ?::bigint) t {DUE.order}"
)
"""Skips a random multiple of the rows that are wanted.

At least that many due rows follow, or the page starts with the first row. The list of columns,
which counts the unfinished runs of each row, is computed only for the rows of the page."""


def ask_due(
    connection: Connection,
    partitions: Sequence[str],
    *,
    limit: int,
    spread: int,
    given_now: Instant | None,
) -> Callable[[], DueRows]:
    """Read what may be claimed, and the server's clock, in one round trip.

    The function that is returned waits for the rows. Pending runs are rare: if there are any, they
    are read in a second round trip. *given_now* replaces the server's clock in a test; see
    `Connection.ask_due` for the rest.
    """
    page, chance = limit + SPARE, os.urandom(1)[0]
    values: list[Cell] = []
    for place in partitions:
        skipped = (chance, place, spread, limit, limit) if spread else ()
        values += [place, *skipped, page]
    text = _CLOCK_ALONE
    if partitions:
        one = _SPREAD if spread else _select(DUE)
        text = _FIRST_PAGE.format(_each(one, partitions), _positions(DUE, start=3))
    result = connection.execute(text, [given_now, literal(partitions), *values])
    return lambda: _due_rows(
        connection, partitions, list(result), limit=limit, spread=spread, page=page
    )


def _due_rows(
    connection: Connection,
    partitions: Sequence[str],
    found: Sequence[Row],
    *,
    limit: int,
    spread: int,
    page: int,
) -> DueRows:
    """Return what the first page has found, and the pages after it, which are read if needed."""
    now, first_pending_at = found[0][:2]
    rows = [row[2:] for row in found if row[2] is not None]
    due = [row for row in rows if row[DUE.sorted_by[0]] <= now]
    later: Iterable[Row] = ()
    if spread and len(due) >= limit:
        # Rows were skipped; if fewer are due than are wanted, the page has the first row after all.
        rows, later = due, _rows_from(connection, DUE, partitions, 0, page)
    elif len(rows) >= page:
        # The pages of several partitions together have more rows than one page of all: the rest is
        # left to the second page, which starts where a page of all ends.
        rows = rows[:page]
        later = _rows_from(connection, DUE, partitions, page, page * _GROWTH)
    pending = _rows_from(connection, PENDING, partitions, 0, page)
    return DueRows(
        now,
        _once(chain(rows, later), key=DUE.key),
        () if first_pending_at is None else _once(pending, key=PENDING.key),
    )


def _rows_from(
    connection: Connection,
    query: PartitionQuery,
    partitions: Sequence[str],
    offset: int,
    page: int,
) -> Iterator[Row]:
    """Yield the rows of all partitions while they are asked for, each page longer than the last."""
    text = _PAGE.format(_each(_select(query), partitions), _positions(query, start=1))
    while partitions:
        # Each partition gives as many rows as the page could need of it alone: the index of the
        # table starts with the partition, so the server can sort few rows instead of all.
        values: list[Cell] = []
        for place in partitions:
            values += [place, page + offset]
        rows = list(connection.execute(text, [*values, page, offset]))
        yield from rows
        if len(rows) < page:
            return
        offset, page = offset + page, page * _GROWTH


def _once(rows: Iterable[Row], *, key: int) -> Iterator[Row]:
    seen: set[object] = set()
    for row in rows:
        if row[key] not in seen:
            seen.add(row[key])
            yield row


def _select(query: PartitionQuery) -> str:
    return f"SELECT {query.columns} {query.rows} {query.order}"


def _positions(query: PartitionQuery, *, start: int) -> str:
    return ", ".join(str(start + position) for position in query.sorted_by)


def _each(text: str, partitions: Sequence[str]) -> str:
    return " UNION ALL ".join([f"({text} LIMIT ?)"] * len(partitions))
