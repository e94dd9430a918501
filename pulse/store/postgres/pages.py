"""Reading what is due page by page; nearly always the first one does, and the clock is on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pulse.store.postgres.link import CLOCK
from pulse.store.sql.claims import DUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pulse.clock import Instant
    from pulse.store.sql.link import Cell, Link

SPARE = 8
"""How many rows are read beyond those that are wanted: some may be of no use here."""

ASIDE = 4
"""How many times what is wanted is read where others want the same."""

_GROWTH = 4
_LOOKING = (
    f"SELECT c.*, d.* FROM (SELECT {CLOCK},"  # noqa: S608 - constants alone
    " (SELECT min(retry_at) FROM @runs WHERE outcome IS NULL AND holder = '' AND place IN (?*))"
    " ) AS c LEFT JOIN ({}) AS d ON true ORDER BY 3, 4"
)
_PAGE = "SELECT * FROM ({}) AS u ORDER BY {} LIMIT ? OFFSET ?"
_NOTHING = "SELECT NULL::bigint, NULL::bigint WHERE false"


def looking(places: int) -> str:
    """Return the statement that tells the clock, the first unheld run, and a page of what is due.

    Its values are the instant that stands for the clock, the places, and for each place its name
    and the length of the page.
    """
    return _LOOKING.format(_each(DUE, places) if places else _NOTHING)


def paged(
    link: Link,
    text: str,
    places: Sequence[str],
    page: int,
    *,
    order: str,
    key: int,
    first: Sequence[tuple[Any, ...]] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Return the rows of all places as they are asked for, each once.

    Args:
        link: the connection.
        text: the statement for one place.
        places: their names.
        page: the length of the first page; those that follow are longer.
        order: the columns that the rows are in order of, counted from 1.
        key: the column that tells a row, counted from 0; it may move between two pages.
        first: the first page, where it was read already.

    """
    seen: set[object] = set()
    rows: Iterable[tuple[Any, ...]] | None = first
    after = 0
    while places:
        if rows is None:
            values: list[Cell] = []
            for place in places:
                values += [place, page + after]
            asked = _PAGE.format(_each(text, len(places)), order)
            rows = list(link.run(asked, [*values, page, after]))
        found = 0
        for row in rows:
            found += 1
            if row[key] not in seen:
                seen.add(row[key])
                yield row
        if found < page:
            return
        after, page, rows = after + found, page * _GROWTH, None


def turned(
    rows: Sequence[tuple[Any, ...]], now: Instant, limit: int, *, chance: int
) -> list[tuple[Any, ...]]:
    """Return a page so that it begins at some multiple of *limit* in what is due; *chance* says.

    Processes that would all begin with the oldest row would all lose it but one.
    """
    due = sum(row[0] <= now for row in rows)
    start = chance % max(1, due // max(1, limit)) * limit
    return [*rows[start:due], *rows[:start], *rows[due:]]


def _each(text: str, places: int) -> str:
    return " UNION ALL ".join([f"({text} LIMIT ?)"] * places)
