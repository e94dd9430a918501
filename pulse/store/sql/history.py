"""Reads pages of the history: by number, never by offset, and within a bounded number of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.core.run import QUEUE_HOLDER, Outcome
from pulse.core.run_query import (
    EXECUTED,
    MOST_FAILURES,
    PENDING,
    RUNNING,
    WENT_WRONG,
    LastRuns,
    RunPage,
    page_of,
)
from pulse.store.shared.rows import task_key
from pulse.store.sql.codec import RUN_COLUMNS, RUN_WIDTH, run_of
from pulse.store.sql.schema import IS_WRONG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.run_query import RunQuery
    from pulse.store.sql.database import Cell, Connection

EXAMINED = 10_000
"""How many runs are examined for one page at most."""

_UNFINISHED = {
    PENDING: f"(outcome IS NULL AND holder IN ('', '{QUEUE_HOLDER}'))",
    RUNNING: f"(outcome IS NULL AND holder NOT IN ('', '{QUEUE_HOLDER}'))",
}


def _newest(of: str, outcomes: str) -> str:
    return (
        f"(SELECT r.seq FROM @runs r WHERE r.task = {of}.task AND r.place = {of}.place"  # noqa: S608 - constants alone
        f" AND r.outcome IN ({outcomes}) ORDER BY r.seq DESC LIMIT 1)"
    )


def _quoted(outcomes: Iterable[str]) -> str:
    return ", ".join(f"'{one}'" for one in sorted(outcomes))


_OUTCOMES = {one.value: one for one in Outcome}
_ALL = 2**31 - 1
_ENDED_AT = "coalesce({0}.started_at + {0}.took_us, {0}.claimed_at)"
_SUCCEEDED = _quoted([Outcome.SUCCEEDED])
_FAILED = _quoted(EXECUTED - {Outcome.SUCCEEDED})
_LAST_RUNS = (
    f"WITH k AS (SELECT t.task, t.place, {_newest('t', _quoted(EXECUTED))} AS last"  # noqa: S608 - constants alone
    f" FROM @tasks t WHERE t.archived_at IS NULL{{}} LIMIT {_ALL}),"
    f" m AS (SELECT k.task, k.place, l.seq, l.outcome, {_ENDED_AT.format('l')} AS ended,"
    f" CASE WHEN l.outcome = 'succeeded' THEN l.seq ELSE {_newest('k', _SUCCEEDED)} END AS good"
    f" FROM k JOIN @runs l ON l.seq = k.last LIMIT {_ALL})"
    f" SELECT m.place, m.task, m.outcome, m.ended, {_ENDED_AT.format('g')}, m.seq, m.good"
    " FROM m LEFT JOIN @runs g ON g.seq = CASE WHEN m.good <> m.seq THEN m.good END"
)
"""The newest success is looked up only where the newest run is none: that is half of the work. The
limits keep the look-ups from being copied to each use of their columns."""

_FAILURES = (
    "SELECT count(*) FROM (SELECT 1 FROM @runs f WHERE f.task = ? AND f.place = ?"  # noqa: S608 - constants alone
    f" AND f.seq > ? AND f.outcome IN ({_FAILED}) LIMIT {MOST_FAILURES}) n"
)
"""A statement of its own: as a part of the other, PostgreSQL compiles that, which takes longer."""


def read_last_runs(connection: Connection, name: str | None = None) -> dict[str, LastRuns]:
    """Return how the newest runs of the tasks in use, or of one, ended, by the key of the row."""
    values = () if name is None else (name,)
    found = [*connection.execute(_LAST_RUNS.format(" AND t.task = ?" if values else ""), values)]
    failing = [(task, place, good) for place, task, *_, last, good in found if last != good]
    with connection.together():
        counts = [
            connection.execute(_FAILURES, (task, place, -1 if good is None else good))
            for task, place, good in failing
        ]
    failures = {
        (task, place): next(iter(count))[0]
        for (task, place, _), count in zip(failing, counts, strict=True)
    }
    return {
        task_key(task, place): LastRuns(
            _OUTCOMES[outcome],
            ended,
            ended if last == good else succeeded,
            failures.get((task, place), 0),
        )
        for place, task, outcome, ended, succeeded, last, good in found
    }


class _Conditions:
    """Conditions of a statement and their values."""

    def __init__(self) -> None:
        self.terms: list[str] = []
        self.values: list[Cell] = []

    def add(self, term: str, *values: Cell | None) -> None:
        """Add a condition, unless one of its values is None."""
        if None not in values:
            self.terms.append(term)
            self.values += values

    def text(self) -> str:
        return " AND ".join(self.terms) or "1 = 1"


def read_page(connection: Connection, query: RunQuery) -> RunPage:
    """Return one page of the history."""
    where = _Conditions()
    where.add("task = ?", query.task)
    where.add("seq < ?", query.before)
    if query.states is not None and query.states <= WENT_WRONG:
        where.add(IS_WRONG)
    order, stopped_at = "seq", None
    if query.states is not None and query.states <= _UNFINISHED.keys():
        # The index of unfinished runs is short, and a sum keeps the history from being walked.
        where.add("outcome IS NULL")
        order = "seq + 0"
    elif query.is_filter:
        stopped_at = _examine(connection, where)
    where.add("seq >= ?", stopped_at)
    _add_filters(where, query)
    text = (
        f"SELECT {RUN_COLUMNS}, seq FROM @runs WHERE {where.text()} ORDER BY {order} DESC LIMIT ?"  # noqa: S608 - constants alone
    )
    found = connection.execute(text, [*where.values, query.limit + 1])
    numbered = ((cells[RUN_WIDTH], run_of(cells)) for cells in found)
    return page_of(numbered, limit=query.limit, stopped_at=stopped_at)


def _examine(connection: Connection, where: _Conditions) -> int | None:
    """Return the number of the last run to examine; None if all that are left may be examined."""
    text = f"SELECT seq FROM @runs WHERE {where.text()} ORDER BY seq DESC LIMIT 1 OFFSET ?"  # noqa: S608 - constants alone
    last = connection.execute(text, [*where.values, EXAMINED - 1]).fetchone()
    return None if last is None else int(last[0])


def _add_filters(where: _Conditions, query: RunQuery) -> None:
    if query.states is not None:
        outcomes = sorted(query.states & set(Outcome))
        marks = ", ".join("?" * len(outcomes))
        terms = [_UNFINISHED[one] for one in sorted(query.states & _UNFINISHED.keys())]
        terms += [f"outcome IN ({marks})"] if outcomes else []
        where.add(f"({' OR '.join(terms) or '1 = 0'})", *map(str, outcomes))
    where.add("trigger = ?", None if query.trigger is None else query.trigger.value)
    where.add("holder = ?", query.holder)
    where.add("fire_time >= ?", query.since)
    where.add("fire_time < ?", query.until)
