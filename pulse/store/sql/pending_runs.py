"""Pending runs: which can be claimed, which wait, which have expired; how they are claimed.

A run is pending if it is unfinished and has no holder: a manual or start-up run, a run that waits
for an earlier run of its task, a retry, or a run that was abandoned and is run again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from pulse.core.run_transitions import claim_run, expire_retry, miss_run
from pulse.errors import ConfigError
from pulse.store.rules import PendingDecision, decide_pending
from pulse.store.sql.database import PartitionQuery, Update
from pulse.store.sql.runs import COLUMNS, attempts_cell, run_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.store.sql.caller import SqlCaller
    from pulse.store.sql.database import Cell, Connection

    TaskKey = tuple[str, str]

PENDING = PartitionQuery(
    columns=(
        f"{', '.join('r.' + name for name in COLUMNS.split(', '))}, r.seq, t.digest,"  # noqa: S608 - constants alone
        " t.next_fire, t.key, t.words,"
        " (SELECT count(*) FROM @runs h WHERE h.task = r.task AND h.place = r.place"
        "  AND h.outcome IS NULL AND h.holder <> '')"
    ),
    rows=(
        "FROM @runs r JOIN @tasks t ON t.task = r.task AND t.place = r.place"
        " WHERE r.outcome IS NULL AND r.holder = '' AND r.place = ? AND t.archived_at IS NULL"
    ),
    order="ORDER BY retry_at, seq",
    sorted_by=(15, 18),
    key=0,
)
_FIRST_OF_TASK = len(COLUMNS.split(", ")) + 1  # after the columns of the run, and its `seq`
_STILL_PENDING = (
    "SELECT id, attempt, task, place, (SELECT count(*) FROM @runs h"
    "  WHERE h.task = r.task AND h.place = r.place AND h.outcome IS NULL AND h.holder <> '')"
    " FROM @runs r WHERE holder = '' AND outcome IS NULL AND id IN (?*)"
    " FOR UPDATE SKIP LOCKED"
)
_CLAIM = Update(
    "@runs",
    sets=("holder", "attempt", "claimed_at", "lease_us", "mark"),
    keys=("id",),
    also="retry_at = NULL, started_at = NULL, took_us = NULL, status = NULL, message = ''",
)
_CLOSE = Update("@runs", sets=("outcome", "message", "tries"), keys=("id",), also="retry_at = NULL")


class PendingRow(NamedTuple):
    """A row of `PENDING`: a run, and its task.

    Attributes:
        run: the run.
        digest: the digest of the task's definition.
        next_fire: the task's next fire time.
        key: the key of the task's row.
        task_json: the definition of a run-time task; None if the task is configured.
        claimed: how many runs of the task are claimed.

    """

    run: Run
    digest: str
    next_fire: Instant | None
    key: int
    task_json: str | None
    claimed: int


class PendingSelection(NamedTuple):
    """The pending runs to claim and to close, as one read found them.

    Attributes:
        selected: the runs to claim, as they were read.
        closed: the runs to close, with their outcomes.
        keys: the keys of the rows of their tasks.
        known: the definitions of the runs to claim, by task.
        next_wakeup: when there is more work; None if there is none.

    """

    selected: Sequence[Run]
    closed: Sequence[Run]
    keys: Mapping[TaskKey, int]
    known: Mapping[str, TaskDefinition]
    next_wakeup: Instant | None

    def count_closed(self, task: str, partition: str) -> int:
        """Return how many runs of a task are to be closed in a partition."""
        return sum((run.task, run.partition) == (task, partition) for run in self.closed)


class StillPending(NamedTuple):
    """What of a selection can be written.

    Attributes:
        selected: the runs to claim.
        closed: the runs to close.
        lost: the tasks of which another process has claimed a run that was to be closed.

    """

    selected: Sequence[Run]
    closed: Sequence[Run]
    lost: frozenset[TaskKey]


NOTHING_PENDING = StillPending((), (), frozenset())


def select_pending(
    caller: SqlCaller, rows: Iterable[tuple[Any, ...]], *, now: Instant, limit: int
) -> PendingSelection:
    """Return at most *limit* runs to claim, and the runs to close that come before them."""
    selected: list[Run] = []
    closed: list[Run] = []
    selected_of: Counter[TaskKey] = Counter()
    keys: dict[TaskKey, int] = {}
    known: dict[str, TaskDefinition] = {}
    for row in _own_pending(caller, rows):
        run = row.run
        due = run.retry_at or 0
        if due > now:
            return PendingSelection(selected, closed, keys, known, due)
        row_key = (run.task, run.partition)
        try:
            definition = caller.define(run.task, row.task_json)
        except ConfigError:  # written by a newer release, whose processes claim it
            continue
        decision = decide_pending(
            definition,
            run,
            next_fire=row.next_fire,
            claimed=row.claimed + selected_of[row_key],
            now=now,
        )
        if decision is PendingDecision.WAIT:
            continue
        if len(selected) == limit:
            return PendingSelection(selected, closed, keys, known, due)
        keys[row_key] = row.key
        match decision:
            case PendingDecision.EXPIRE:
                closed.append(expire_retry(run))
            case PendingDecision.MISS:
                closed.append(miss_run(run))
            case _:
                selected.append(run)
                known[run.task] = definition
                selected_of[row_key] += 1
    return PendingSelection(selected, closed, keys, known, None)


def _own_pending(caller: SqlCaller, rows: Iterable[tuple[Any, ...]]) -> Iterator[PendingRow]:
    for cells in rows:
        row = PendingRow(run_of(cells), *cells[_FIRST_OF_TASK:])
        if caller.may_run(row.run.task, row.digest, row.task_json):
            yield row


def lock_pending(
    connection: Connection, found: PendingSelection, locked: Container[int]
) -> StillPending:
    """Return the runs that can still be claimed or closed, of tasks whose rows are *locked*.

    The number of claimed runs is read again: one may have been claimed since the selection, and
    `max_concurrent` limits them.
    """
    runs = (*found.selected, *found.closed)
    ids = [run.id for run in runs if found.keys[run.task, run.partition] in locked]
    attempts: dict[str, int] = {}
    claimed: Counter[TaskKey] = Counter()
    for run_id, attempt, task, partition, count in connection.select_in(_STILL_PENDING, ids):
        attempts[run_id] = attempt
        claimed[task, partition] = count
    selected: list[Run] = []
    for run in found.selected:
        row_key = (run.task, run.partition)
        free = claimed[row_key] < found.known[run.task].max_concurrent
        if free and attempts.get(run.id) == run.attempt:
            selected.append(run)
            claimed[row_key] += 1
    closed = [run for run in found.closed if attempts.get(run.id) == run.attempt]
    lost = frozenset((run.task, run.partition) for run in found.closed if run not in closed)
    return StillPending(selected, closed, lost)


def close_runs(connection: Connection, runs: Iterable[Run]) -> None:
    """Record the outcomes of runs that were pending."""
    connection.update_many(_CLOSE, [_closed_cells(run) for run in runs])


def _closed_cells(run: Run) -> tuple[Cell, ...]:
    outcome = None if run.outcome is None else run.outcome.value
    return (outcome, run.message, attempts_cell(run), run.id)


def claim_runs(
    connection: Connection, caller: SqlCaller, runs: Iterable[Run], *, now: Instant, boot: Span
) -> list[Run]:
    """Claim runs for this process, each as its next attempt; return them."""
    member = caller.member
    claimed = [claim_run(run, member.holder, now) for run in runs]
    connection.update_many(
        _CLAIM, [(run.holder, run.attempt, now, member.lease_us, boot, run.id) for run in claimed]
    )
    return claimed
