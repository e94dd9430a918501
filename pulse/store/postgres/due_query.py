"""Reads due tasks in pages; the first page, which usually suffices, also gives the server's clock.

Rows are locked, moved and deleted by other processes between two pages. `_pages` reads a page by
its offset, so a row may appear on two pages (it is then returned once) or on none (it is then
found by the next call).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pulse.store.postgres.arrays import literal
from pulse.store.sql.database import DueRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pulse.clock import Instant
    from pulse.store.sql.database import Cell, Connection, DueQuery, PartitionQuery

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
_NOTHING = "SELECT NULL::bigint, NULL::bigint WHERE false"


def read_due(connection: Connection, query: DueQuery, given_now: Instant | None) -> DueRows:
    """Return what may be claimed, and the server's clock, in one round trip.

    Pending runs are rare: if there are any, they are read in a second round trip.

    Args:
        connection: the connection.
        query: what is wanted.
        given_now: replaces the server's clock in a test.

    """
    partitions, page = sorted(query.partitions), query.limit + SPARE
    text, values = _first_page(query, partitions, page)
    found = list(connection.execute(text, [given_now, literal(partitions), *values]))
    now, first_pending_at = found[0][:2]
    rows = [row[2:] for row in found if row[2] is not None]
    due = [row for row in rows if row[0] <= now]
    # If fewer rows are due than are wanted, the page starts with the first row after all.
    skips_rows = query.spread > 0 and len(due) >= query.limit
    # The pages of several partitions together have more rows than one page of all: the rest is
    # left to the second page, which starts where a page of all ends.
    rows = due if skips_rows else rows[:page]
    tasks = _pages(connection, query.due, partitions, page, first=rows, skips_rows=skips_rows)
    pending = _pages(connection, query.pending, partitions, page)
    return DueRows(now, tasks, () if first_pending_at is None else pending)


def _first_page(query: DueQuery, partitions: Sequence[str], page: int) -> tuple[str, list[Cell]]:
    values: list[Cell] = []
    if query.spread:
        chance = os.urandom(1)[0]
        one = _page_with_offset(query.due)
        for place in partitions:
            values += [place, chance, place, query.spread, query.limit, query.limit, page]
    else:
        one = _select(query.due)
        for place in partitions:
            values += [place, page]
    rows = _each(one, len(partitions)) if partitions else _NOTHING
    return _FIRST_PAGE.format(rows, _positions(query.due, start=3)), values


def _page_with_offset(due: PartitionQuery) -> str:
    """Return a query that skips a random multiple of the rows that are wanted.

    At least that many due rows follow, or the page starts with the first row. The list of columns,
    which counts the unfinished runs of each row, is computed only for the rows of the page.
    """
    return (
        f"SELECT {due.columns} FROM (SELECT * {due.rows} {due.order} OFFSET"  # noqa: S608 - constants alone
        " mod(?::bigint, greatest(1,"
        f" (SELECT count(*) FROM (SELECT {due.rows} AND due_at <= (SELECT now FROM c)"
        " LIMIT ?::bigint) n)"
        f" / ?::bigint)) * ?::bigint) t {due.order}"
    )


def _pages(
    connection: Connection,
    query: PartitionQuery,
    partitions: Sequence[str],
    page: int,
    *,
    first: Sequence[Row] | None = None,
    skips_rows: bool = False,
) -> Iterator[Row]:
    """Yield the rows of all partitions while they are asked for, each row once.

    Args:
        connection: the connection.
        query: the query for one partition.
        partitions: their names.
        page: the length of the first page; each later page is four times as long.
        first: the first page, if it was read already.
        skips_rows: whether the first page left out rows before it; they are read after it.

    """
    seen: set[object] = set()
    rows: Iterable[Row] | None = first
    offset = 0
    while partitions:
        if rows is None:
            rows = _read_page(connection, query, partitions, page, offset)
        found = 0
        for row in rows:
            found += 1
            if row[query.key] not in seen:
                seen.add(row[query.key])
                yield row
        if skips_rows:
            # Start again with the row at offset 0; `seen` drops the rows of the page before.
            skips_rows, rows = False, None
        elif found < page:
            return
        else:
            offset, page, rows = offset + found, page * _GROWTH, None


def _read_page(
    connection: Connection,
    query: PartitionQuery,
    partitions: Sequence[str],
    page: int,
    offset: int,
) -> list[Row]:
    # Each partition gives as many rows as the page could need of it alone: the index of the table
    # starts with the partition, so the server can sort few rows instead of all.
    values: list[Cell] = []
    for place in partitions:
        values += [place, page + offset]
    text = _PAGE.format(_each(_select(query), len(partitions)), _positions(query, start=1))
    return list(connection.execute(text, [*values, page, offset]))


def _select(query: PartitionQuery) -> str:
    return f"SELECT {query.columns} {query.rows} {query.order}"


def _positions(query: PartitionQuery, *, start: int) -> str:
    return ", ".join(str(start + position) for position in query.sorted_by)


def _each(text: str, partitions: int) -> str:
    return " UNION ALL ".join([f"({text} LIMIT ?)"] * partitions)
