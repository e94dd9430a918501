"""Reading what is due page by page; nearly always the first one does, and the clock is on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pulse.store.postgres.connection import CLOCK
from pulse.store.sql.due_query import COLUMNS, DUE, FOUND, ORDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pulse.store.sql.database import Cell, Connection

SPARE = 8
"""How many rows are read beyond those that are wanted: some may be of no use here."""

_GROWTH = 4
_LOOKING = (
    f"WITH c AS MATERIALIZED (SELECT {CLOCK} AS now,"  # noqa: S608 - constants alone
    " (SELECT min(retry_at) FROM @runs WHERE outcome IS NULL AND holder = '' AND place IN (?*)))"
    " SELECT c.*, d.* FROM c LEFT JOIN ({}) AS d ON true ORDER BY 3, 4"
)
# The numbers of open runs are counted for the rows alone that are not passed over.
_FURTHER_ON = (
    f"SELECT {COLUMNS} FROM (SELECT * {FOUND} {ORDER} OFFSET mod(?::bigint, greatest(1,"  # noqa: S608 - constants alone
    f" (SELECT count(*) FROM (SELECT {FOUND} AND due_at <= (SELECT now FROM c) LIMIT ?::bigint) n)"
    f" / ?::bigint)) * ?::bigint) t {ORDER}"
)
_PAGE = "SELECT * FROM ({}) AS u ORDER BY {} LIMIT ? OFFSET ?"
_NOTHING = "SELECT NULL::bigint, NULL::bigint WHERE false"


def due_query(partitions: Sequence[str], page: int) -> tuple[str, list[Cell]]:
    """Return the statement that tells the clock, the first unheld run, and a page of what is due.

    Its values follow after the instant that stands for the clock, and the places.
    """
    values: list[Cell] = [cell for place in partitions for cell in (place, page)]
    return _LOOKING.format(_each(DUE, len(partitions)) if partitions else _NOTHING), values


def due_query_with_offset(
    partitions: Sequence[str], page: int, limit: int, *, spread: int, chance: int
) -> tuple[str, list[Cell]]:
    """Return the same, but that the page of each place begins somewhere in what is due.

    It passes over some multiple of *limit* rows, which *chance* says, of at most *spread*. At least
    *limit* rows of the page are due, or it begins with the first.
    """
    values: list[Cell] = []
    for place in partitions:
        values += [place, chance, place, spread, limit, limit, page]
    return _LOOKING.format(_each(_FURTHER_ON, len(partitions)) if partitions else _NOTHING), values


def paged(
    connection: Connection,
    text: str,
    partitions: Sequence[str],
    page: int,
    *,
    order: str,
    key: int,
    first: Sequence[tuple[Any, ...]] | None = None,
    aside: bool = False,
) -> Iterator[tuple[Any, ...]]:
    """Return the rows of all partitions as they are asked for, each once.

    Args:
        connection: the connection.
        text: the statement for one partition.
        partitions: their names.
        page: the length of the first page; those that follow are longer.
        order: the columns that the rows are in order of, counted from 1.
        key: the column that tells a row, counted from 0; it may move between two pages.
        first: the first page, where it was read already.
        aside: whether that one began further on, so that what lies before it comes after it.

    """
    seen: set[object] = set()
    rows: Iterable[tuple[Any, ...]] | None = first
    after = 0
    while partitions:
        if rows is None:
            values: list[Cell] = []
            for place in partitions:
                values += [place, page + after]
            asked = _PAGE.format(_each(text, len(partitions)), order)
            rows = list(connection.execute(asked, [*values, page, after]))
        found = 0
        for row in rows:
            found += 1
            if row[key] not in seen:
                seen.add(row[key])
                yield row
        if aside:
            aside, rows = False, None
        elif found < page:
            return
        else:
            after, page, rows = after + found, page * _GROWTH, None


def _each(text: str, partitions: int) -> str:
    return " UNION ALL ".join([f"({text} LIMIT ?)"] * partitions)
