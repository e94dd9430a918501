"""Runs that nobody holds: which are work, which wait, which are given up; taking them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from pulse.core.run_transitions import given_up_run, missed_run, taken_run
from pulse.errors import ConfigError
from pulse.store.rules import Verdict, judge_unheld
from pulse.store.sql.database import Update
from pulse.store.sql.runs import COLUMNS, run_of, tries_cell

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.core.task import Definition
    from pulse.store.sql.caller import Here
    from pulse.store.sql.database import Cell, Link

    Spot = tuple[str, str]

UNHELD = (
    f"SELECT {', '.join('r.' + name for name in COLUMNS.split(', '))}, r.seq, t.digest,"  # noqa: S608 - constants alone
    " t.next_fire, t.key, t.words,"
    " (SELECT count(*) FROM @runs h WHERE h.task = r.task AND h.place = r.place"
    "  AND h.outcome IS NULL AND h.holder <> '')"
    " FROM @runs r JOIN @tasks t ON t.task = r.task AND t.place = r.place"
    " WHERE r.outcome IS NULL AND r.holder = '' AND r.place = ? AND t.archived_at IS NULL"
    " ORDER BY retry_at, seq"
)
_STILL = (
    "SELECT id, attempt, task, place, (SELECT count(*) FROM @runs h"
    "  WHERE h.task = r.task AND h.place = r.place AND h.outcome IS NULL AND h.holder <> '')"
    " FROM @runs r WHERE holder = '' AND outcome IS NULL AND id IN (?*)"
    " FOR UPDATE SKIP LOCKED"
)
_TAKE = Update(
    "@runs",
    sets=("holder", "attempt", "claimed_at", "lease_us", "mark"),
    keys=("id",),
    also="retry_at = NULL, started_at = NULL, took_us = NULL, status = NULL, message = ''",
)
_CLOSE = Update("@runs", sets=("outcome", "message", "tries"), keys=("id",), also="retry_at = NULL")


class Found(NamedTuple):
    """What one look found among the runs that nobody holds.

    Attributes:
        taken: those to take, as they were read.
        closed: those to end, as they then read.
        keys: the keys of the rows of their tasks.
        known: what those to take are to call, by task.
        wake_at: when there is more to do.

    """

    taken: Sequence[Run]
    closed: Sequence[Run]
    keys: Mapping[Spot, int]
    known: Mapping[str, Definition]
    wake_at: Instant | None

    def count_closed(self, task: str, place: str) -> int:
        """Return how many runs of a task are to be ended in a place."""
        return sum((run.task, run.place) == (task, place) for run in self.closed)


class Still(NamedTuple):
    """What is left of it inside the write, and the places in which a run was not to be ended."""

    taken: Sequence[Run]
    closed: Sequence[Run]
    lost: frozenset[Spot]


def sift_unheld(here: Here, rows: Iterable[tuple[Any, ...]], *, now: Instant, limit: int) -> Found:
    """Return at most *limit* runs to take, and before them those to end."""
    taken: list[Run] = []
    closed: list[Run] = []
    spots: Counter[Spot] = Counter()
    keys: dict[Spot, int] = {}
    known: dict[str, Definition] = {}
    for run, next_fire, key, words, held in _own_unheld(here, rows):
        due = run.retry_at or 0
        if due > now:
            return Found(taken, closed, keys, known, due)
        spot = (run.task, run.place)
        try:
            definition = here.define(run.task, words)
        except ConfigError:  # of a newer release, to which it is left
            continue
        verdict = judge_unheld(
            definition, run, next_fire=next_fire, held=held + spots[spot], now=now
        )
        if verdict is Verdict.WAIT:
            continue
        if len(taken) == limit:
            return Found(taken, closed, keys, known, due)
        keys[spot] = key
        match verdict:
            case Verdict.GIVE_UP:
                closed.append(given_up_run(run))
            case Verdict.MISS:
                closed.append(missed_run(run))
            case _:
                taken.append(run)
                known[run.task] = definition
                spots[spot] += 1
    return Found(taken, closed, keys, known, None)


def _own_unheld(
    here: Here, rows: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[Run, Instant | None, int, str | None, int]]:
    for row in rows:
        if here.runs(row[1], row[19], row[22]):
            yield run_of(row), row[20], row[21], row[22], row[23]


def still_unheld(link: Link, found: Found, locked: Container[int]) -> Still:
    """Return what is still to be done of what was found, where the task's row is locked."""
    runs = (*found.taken, *found.closed)
    ids = [run.id for run in runs if found.keys[run.task, run.place] in locked]
    attempts: dict[str, int] = {}
    held: Counter[Spot] = Counter()
    for run_id, attempt, task, place, count in link.among(_STILL, ids):
        attempts[run_id] = attempt
        held[task, place] = count
    taken: list[Run] = []
    for run in found.taken:
        spot = (run.task, run.place)
        free = held[spot] < found.known[run.task].at_once
        if free and attempts.get(run.id) == run.attempt:
            taken.append(run)
            held[spot] += 1
    closed = [run for run in found.closed if attempts.get(run.id) == run.attempt]
    lost = frozenset((run.task, run.place) for run in found.closed if run not in closed)
    return Still(taken, closed, lost)


def close_runs(link: Link, runs: Iterable[Run]) -> None:
    """End runs that nobody holds."""
    link.change(_CLOSE, [_closed_cells(run) for run in runs])


def _closed_cells(run: Run) -> tuple[Cell, ...]:
    outcome = None if run.outcome is None else run.outcome.value
    return (outcome, run.message, tries_cell(run), run.id)


def take_runs(
    link: Link, here: Here, runs: Iterable[Run], *, now: Instant, boot: Span
) -> list[Run]:
    """Give runs to this process, each as its next attempt."""
    member = here.member
    taken = [taken_run(run, member.holder, now) for run in runs]
    link.change(
        _TAKE, [(run.holder, run.attempt, now, member.lease_us, boot, run.id) for run in taken]
    )
    return taken
