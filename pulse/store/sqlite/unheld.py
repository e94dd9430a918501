"""Runs that nobody holds: which are work, which wait, which are given up; taking them."""

from __future__ import annotations

import heapq
from collections import Counter
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from pulse.store.decide import Verdict, judge_unheld
from pulse.store.sqlite.records import COLUMNS, run_of, tries_cell
from pulse.store.steps import given_up_run, missed_run, taken_run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from pulse.clock import Instant, Span
    from pulse.run import Run
    from pulse.store.sqlite.claims import Here
    from pulse.store.sqlite.file import Cell, Link

    Spot = tuple[str, str]

_CHUNK = 500
_UNHELD = (
    f"SELECT {', '.join('r.' + name for name in COLUMNS.split(', '))}, r.seq, t.digest,"  # noqa: S608 - constants alone
    " t.next_fire,"
    " (SELECT count(*) FROM @runs h WHERE h.task = r.task AND h.place = r.place"
    "  AND h.outcome IS NULL AND h.holder <> '')"
    " FROM @runs r JOIN @tasks t ON t.task = r.task AND t.place = r.place"
    " WHERE r.outcome IS NULL AND r.holder = '' AND r.place = ? AND t.archived_at IS NULL"
    " ORDER BY r.retry_at, r.seq"
)
_STILL = (
    "SELECT id, attempt, task, place, (SELECT count(*) FROM @runs h"
    "  WHERE h.task = r.task AND h.place = r.place AND h.outcome IS NULL AND h.holder <> '')"
    " FROM @runs r WHERE holder = '' AND outcome IS NULL AND id IN ({})"
)
_TAKE = (
    "UPDATE @runs SET holder = ?, attempt = ?, claimed_at = ?, retry_at = NULL, started_at = NULL,"
    " took_us = NULL, status = NULL, message = '', lease_us = ?, mark = ? WHERE id = ?"
)
_CLOSE = "UPDATE @runs SET outcome = ?, retry_at = NULL, message = ?, tries = ? WHERE id = ?"


class Found(NamedTuple):
    """What one look found among the runs that nobody holds.

    Attributes:
        taken: those to take, as they were read.
        closed: those to end, as they then read.
        wake_at: when there is more to do.

    """

    taken: Sequence[Run]
    closed: Sequence[Run]
    wake_at: Instant | None

    def count_closed(self, task: str, place: str) -> int:
        """Return how many runs of a task are to be ended in a place."""
        return sum((run.task, run.place) == (task, place) for run in self.closed)


class Still(NamedTuple):
    """What is left of it inside the write, and the places in which a run was not to be ended."""

    taken: Sequence[Run]
    closed: Sequence[Run]
    lost: frozenset[Spot]


def read_unheld(link: Link, here: Here, *, now: Instant, limit: int) -> Found:
    """Return at most *limit* runs to take, and before them those to end."""
    taken: list[Run] = []
    closed: list[Run] = []
    spots: Counter[Spot] = Counter()
    for run, next_fire, held in _own_unheld(link, here):
        due = run.retry_at or 0
        if due > now:
            return Found(taken, closed, due)
        spot = (run.task, run.place)
        verdict = judge_unheld(
            here.definitions[run.task], run, next_fire=next_fire, held=held + spots[spot], now=now
        )
        if verdict is Verdict.WAIT:
            continue
        if len(taken) == limit:
            return Found(taken, closed, due)
        match verdict:
            case Verdict.GIVE_UP:
                closed.append(given_up_run(run))
            case Verdict.MISS:
                closed.append(missed_run(run))
            case _:
                taken.append(run)
                spots[spot] += 1
    return Found(taken, closed, None)


def _own_unheld(link: Link, here: Here) -> Iterator[tuple[Run, Instant | None, int]]:
    found = [link.run(_UNHELD, (place,)) for place in here.places]
    for row in merged(found, itemgetter(15, 18)):
        definition = here.definitions.get(row[1])
        if definition is not None and definition.digest == row[19]:
            yield run_of(row), row[20], row[21]


def merged(
    found: Sequence[sqlite3.Cursor], key: itemgetter[tuple[int, int]]
) -> Iterable[tuple[Any, ...]]:
    """Return the rows of several sorted answers as one sorted answer."""
    return found[0] if len(found) == 1 else heapq.merge(*found, key=key)


def among(link: Link, text: str, values: Iterable[Cell]) -> Iterator[tuple[Any, ...]]:
    """Return what a statement says of all *values*, asked in bounded lists."""
    left = iter(values)
    while chunk := list(islice(left, _CHUNK)):
        yield from link.run(text.format(",".join("?" * len(chunk))), chunk)


def still_unheld(link: Link, here: Here, found: Found) -> Still:
    """Return what is still to be done of what was found."""
    ids = [run.id for run in (*found.taken, *found.closed)]
    attempts: dict[str, int] = {}
    held: Counter[Spot] = Counter()
    for run_id, attempt, task, place, count in among(link, _STILL, ids):
        attempts[run_id] = attempt
        held[task, place] = count
    taken: list[Run] = []
    for run in found.taken:
        spot = (run.task, run.place)
        free = held[spot] < here.definitions[run.task].at_once
        if free and attempts.get(run.id) == run.attempt:
            taken.append(run)
            held[spot] += 1
    closed = [run for run in found.closed if attempts.get(run.id) == run.attempt]
    lost = frozenset((run.task, run.place) for run in found.closed if run not in closed)
    return Still(taken, closed, lost)


def close_runs(link: Link, runs: Iterable[Run]) -> None:
    """End runs that nobody holds."""
    link.run_many(_CLOSE, [_closed_cells(run) for run in runs])


def _closed_cells(run: Run) -> tuple[Cell, ...]:
    outcome = None if run.outcome is None else run.outcome.value
    return (outcome, run.message, tries_cell(run), run.id)


def take_runs(
    link: Link, here: Here, runs: Iterable[Run], *, now: Instant, boot: Span
) -> list[Run]:
    """Give runs to this process, each as its next attempt."""
    member = here.member
    taken = [taken_run(run, member.holder, now) for run in runs]
    link.run_many(
        _TAKE, [(run.holder, run.attempt, now, member.lease_us, boot, run.id) for run in taken]
    )
    return taken
