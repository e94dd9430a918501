"""Claims due tasks: one read that plans, then one short write that compares versions and commits.

The read takes no lock, so processes plan at the same time, and often plan for the same task. The
write locks the rows of the tasks and compares their versions with those that were read. Each write
that moves a task's cursor raises its version, so of several plans for one task the first one is
written; the others find another version and write nothing for that task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.core.planner import Cursor, due_at, plan
from pulse.core.run import Claim, Outcome, Run, run_id
from pulse.core.run_transitions import not_run_record, waiting_run
from pulse.store.base import FailedTask
from pulse.store.rules import plan_resumed
from pulse.store.shared.recovery import defer_skip, recheck_at
from pulse.store.sql.database import Update
from pulse.store.sql.due_query import DueTask
from pulse.store.sql.pending_runs import (
    NOTHING_PENDING,
    claim_runs,
    close_runs,
    lock_pending,
    select_pending,
)
from pulse.store.sql.runs import insert_runs, read_runs, trim_history

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.planner import Plan
    from pulse.core.task import TaskDefinition
    from pulse.store.sql.caller import SqlCaller
    from pulse.store.sql.database import Cell, Connection, DueRows
    from pulse.store.sql.pending_runs import PendingSelection, StillPending, TaskKey

# SKIP LOCKED: a row that is locked now belongs to a process that is claiming or changing it. Its
# version will be another one, so waiting for it would be in vain.
_VERSIONS = (
    "SELECT key, version, due_at FROM @tasks WHERE key IN (?*) ORDER BY key FOR UPDATE SKIP LOCKED"
)
_CLAIMED = "SELECT task, place FROM @runs WHERE outcome IS NULL AND holder <> '' AND task IN (?*)"
_EXISTING = "SELECT id FROM @runs WHERE id IN (?*)"
_MOVE = Update(
    "@tasks",
    sets=("next_fire", "due_at", "floor", "skip_id"),
    keys=("key",),
    also="resumed_at = NULL, version = version + 1",
)
_FOLD = Update("@runs", sets=("count",), keys=("id",))


class PlannedTask(NamedTuple):
    """A due task as it was read, and what the planner has decided for it."""

    key: int
    version: int
    due: Instant
    definition: TaskDefinition
    partition: str
    skip_id: str | None
    unfinished: int
    plan: Plan

    def opens_claimed_run(self) -> bool:
        """Return whether this process gets a run of the task."""
        return self.plan.opened is not None and not self.plan.opened.waits


class ClaimPlan(NamedTuple):
    """What one read found to do.

    Attributes:
        now: the store's clock at the read.
        tasks: the due tasks.
        pending: the pending runs to claim or to close.
        next_wakeup: when there is more work, apart from `tasks` and `pending`.
        failed_tasks: tasks that could not be planned.

    """

    now: Instant
    tasks: Sequence[PlannedTask]
    pending: PendingSelection
    next_wakeup: Instant | None
    failed_tasks: Sequence[FailedTask]

    def is_work(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self.tasks or self.pending.selected or self.pending.closed)


class WrittenClaims(NamedTuple):
    """What the write has written.

    Attributes:
        runs: the runs that this process has claimed.
        not_run: the runs that record missed and skipped fire times.
        expired_retries: the runs whose retry nobody started in time.
        next_wakeup: when there is work again.
        contested: whether other processes have claimed some of the planned tasks first.

    """

    runs: Sequence[Run]
    not_run: Sequence[Run]
    expired_retries: Sequence[Run]
    next_wakeup: Instant | None
    contested: bool


# Plan ------------------------------------------------------------------------------------


def plan_due(caller: SqlCaller, found: DueRows, limit: int, *, recovering: bool) -> ClaimPlan:
    """Plan what is due, so that this process gets at most *limit* runs.

    Args:
        caller: the process that claims.
        found: the rows.
        limit: how many runs the process can start.
        recovering: whether the recovery window is open: see `pulse.store.shared.recovery`.

    """
    now = found.now
    pending = select_pending(caller, found.pending, now=now, limit=limit)
    tasks: list[PlannedTask] = []
    failed_tasks: list[FailedTask] = []
    room, next_wakeup = limit - len(pending.selected), pending.next_wakeup
    for row in _own_tasks(caller, found.due):
        if row.due_at > now:
            next_wakeup = earliest(row.due_at, next_wakeup)
            break
        planned = _plan_task(caller, row, now, pending, failed_tasks)
        if planned is None:
            continue
        if _defers_skip(planned, now, recovering=recovering):
            next_wakeup = recheck_at(now, next_wakeup)
            continue
        if room <= 0:
            next_wakeup = earliest(row.due_at, next_wakeup)
            break
        tasks.append(planned)
        room -= planned.opens_claimed_run()
    return ClaimPlan(now, tasks, pending, next_wakeup, failed_tasks)


def _own_tasks(caller: SqlCaller, rows: Iterable[tuple[object, ...]]) -> Iterator[DueTask]:
    for row in map(DueTask._make, rows):
        if caller.may_run(row.task, row.digest, row.task_json):
            yield row


def _plan_task(
    caller: SqlCaller,
    row: DueTask,
    now: Instant,
    pending: PendingSelection,
    failed_tasks: list[FailedTask],
) -> PlannedTask | None:
    """Return the plan of a task; None if it waits for one of its runs, or cannot be planned."""
    unfinished = row.unfinished
    if pending.closed:
        unfinished -= pending.count_closed(row.task, row.partition)
    cursor = Cursor(row.anchor, row.next_fire, row.last_decided, row.due_at - row.next_fire)
    try:
        definition = caller.define(row.task, row.task_json)
        decided = plan_resumed(
            definition, cursor, resumed_at=row.resumed_at, unfinished=unfinished, now=now
        )
    # One bad schedule, or one of a newer release, must not keep the other tasks from being claimed.
    except Exception as error:  # noqa: BLE001 - the reason is above
        failed_tasks.append(FailedTask(row.task, error))
        return None
    if decided is None:
        return None
    return PlannedTask(
        row.key,
        row.version,
        row.due_at,
        definition,
        row.partition,
        row.skip_id,
        unfinished,
        decided,
    )


def _defers_skip(planned: PlannedTask, now: Instant, *, recovering: bool) -> bool:
    return planned.plan.skipped is not None and defer_skip(
        planned.definition, planned.plan, now=now, recovering=recovering
    )


def earliest(one: Instant | None, other: Instant | None) -> Instant | None:
    """Return the earlier of two instants, each of which may be None."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


# Write -----------------------------------------------------------------------------------


class _TaskChanges(NamedTuple):
    """What the plans of several tasks change.

    Attributes:
        moves: the values of `_MOVE` for each task.
        added: the runs to add: claimed, waiting, missed and skipped ones.
        claimed: those of `added` that this process has claimed.
        not_run: the runs that record missed and skipped fire times, added or folded.
        folded: by id, the skipped runs of earlier writes, with their counts after this one.
        wakeups: when each task has work again.

    """

    moves: list[tuple[Cell, ...]]
    added: list[Run]
    claimed: list[Run]
    not_run: list[Run]
    folded: dict[str, Run]
    wakeups: list[Instant | None]


def write_claims(
    connection: Connection, caller: SqlCaller, planned: ClaimPlan, *, boot: Span, wary: bool = False
) -> WrittenClaims:
    """Write the plans of the tasks and pending runs that no other process has changed since.

    Args:
        connection: the connection, inside a write transaction.
        caller: the process that claims.
        planned: what was read, and the plans.
        boot: the boot clock when the attempt began.
        wary: whether to leave out runs that exist. A run exists before its cursor has come to it
            if the row of the task was put back to an older state, as by a restore.

    """
    now = planned.now
    # Lock first: what is read from here on stays as it is until the commit.
    rows_now = _lock_rows(connection, planned)
    pending = NOTHING_PENDING
    if planned.pending.keys:
        pending = lock_pending(connection, planned.pending, rows_now)
    tasks, moved_at = _unchanged(planned.tasks, rows_now, pending.lost)

    changes = _decide(caller, tasks, _read_skips(connection, tasks), now)
    if wary:
        _leave_out_existing(connection, changes)

    _write_tasks(connection, changes, now=now, lease_us=caller.member.lease_us, boot=boot)
    claimed = _write_pending(connection, caller, pending, now=now, boot=boot)
    trim_history(connection, changes.added, keep=caller.keep_runs)

    next_wakeup = planned.next_wakeup
    for instant in (*moved_at, *changes.wakeups):
        next_wakeup = earliest(next_wakeup, instant)
    if _has_claimable_waiting_run(connection, tasks):
        next_wakeup = earliest(next_wakeup, now)
    missed = [run for run in pending.closed if run.outcome is Outcome.MISSED]
    return WrittenClaims(
        runs=[*claimed, *changes.claimed],
        not_run=[*missed, *changes.not_run],
        expired_retries=[run for run in pending.closed if run.outcome is not Outcome.MISSED],
        next_wakeup=next_wakeup,
        contested=len(tasks) < len(planned.tasks),
    )


def _lock_rows(connection: Connection, planned: ClaimPlan) -> dict[int, tuple[int, Instant | None]]:
    """Lock the rows of the tasks; return version and due time of those that were not locked."""
    keys = {one.key for one in planned.tasks} | set(planned.pending.keys.values())
    return {
        key: (version, due) for key, version, due in connection.select_in(_VERSIONS, sorted(keys))
    }


def _unchanged(
    planned_tasks: Sequence[PlannedTask],
    rows_now: Mapping[int, tuple[int, Instant | None]],
    lost: frozenset[TaskKey],
) -> tuple[list[PlannedTask], list[Instant | None]]:
    """Return the plans of unchanged rows, and when the tasks of the other rows are due.

    A plan that takes the place of a retry is void if another process has claimed the retry: the
    plan did not count the run of the retry as unfinished.
    """
    unchanged: list[PlannedTask] = []
    moved_at: list[Instant | None] = []
    for one in planned_tasks:
        version, due = rows_now.get(one.key, (None, one.due))
        if version == one.version and (one.definition.name, one.partition) not in lost:
            unchanged.append(one)
        else:
            moved_at.append(due)
    return unchanged, moved_at


def _read_skips(connection: Connection, tasks: Iterable[PlannedTask]) -> dict[str, Run]:
    """Return the last skipped runs of tasks that skip again, which may be counted there."""
    ids = [one.skip_id for one in tasks if one.skip_id and one.plan.skipped]
    return read_runs(connection, ids) if ids else {}


def _decide(
    caller: SqlCaller, tasks: Iterable[PlannedTask], skips: dict[str, Run], now: Instant
) -> _TaskChanges:
    changes = _TaskChanges([], [], [], [], skips, [])
    for planned in tasks:
        skip_id = _record_not_run(caller, planned, changes)
        run = _opened_run(caller, planned, now)
        if run is not None:
            skip_id = None  # a later skip is another streak, with a record of its own
            changes.added.append(run)
            if run.holder:
                changes.claimed.append(run)
        cursor = planned.plan.cursor
        due = due_at(cursor)
        changes.moves.append((cursor.next_fire, due, cursor.last_decided, skip_id, planned.key))
        changes.wakeups.append(_next_work(planned, due, now))
    return changes


def _record_not_run(caller: SqlCaller, planned: PlannedTask, changes: _TaskChanges) -> str | None:
    """Record missed and skipped fire times; return the id of the run that counts the next skip.

    Consecutive skips are counted in one run, so that a task that is always late does not fill the
    history.
    """
    decided, task, partition = planned.plan, planned.definition.name, planned.partition
    skip_id = planned.skip_id
    if decided.missed is not None:
        skip_id = None
        missed = not_run_record(
            caller.space, task, partition=partition, passed=decided.missed, outcome=Outcome.MISSED
        )
        changes.added.append(missed)
        changes.not_run.append(missed)
    if decided.skipped is not None:
        skipped = _fold(changes.folded, skip_id, decided.skipped.count)
        if skipped is None:
            skipped = not_run_record(
                caller.space,
                task,
                partition=partition,
                passed=decided.skipped,
                outcome=Outcome.SKIPPED,
            )
            changes.added.append(skipped)
        changes.not_run.append(skipped)
        skip_id = skipped.id
    return skip_id


def _fold(skips: dict[str, Run], skip_id: str | None, count: int) -> Run | None:
    """Add *count* to a skipped run; return None if there is none, or its row was trimmed."""
    run = None if skip_id is None else skips.get(skip_id)
    if run is None:
        return None
    skips[run.id] = msgspec.structs.replace(run, count=run.count + count)
    return skips[run.id]


def _opened_run(caller: SqlCaller, planned: PlannedTask, now: Instant) -> Run | None:
    opened = planned.plan.opened
    if opened is None:
        return None
    task = planned.definition.name
    if opened.waits:
        return waiting_run(caller.space, task, partition=planned.partition, opened=opened, now=now)
    return Run(
        id=run_id(caller.space, task, planned.partition, opened.scheduled_for),
        task=task,
        partition=planned.partition,
        fire_time=opened.scheduled_for,
        scheduled_for=opened.scheduled_for,
        trigger=opened.trigger,
        holder=caller.member.holder,
        claimed_at=now,
    )


def _next_work(planned: PlannedTask, due: Instant | None, now: Instant) -> Instant | None:
    """Return when the task has work again; None while it waits for one of its runs to end.

    Args:
        planned: the task, and its plan.
        due: when its cursor is due after this write.
        now: the present.

    """
    if due is None or due > now:
        return due
    unfinished = planned.unfinished + (planned.plan.opened is not None)
    try:
        waits = plan(planned.definition, planned.plan.cursor, unfinished, now) is None
    # The next read reports the error: this one must not lose what it has claimed.
    except Exception:  # noqa: BLE001 - the reason is above
        waits = False
    return None if waits else due


def _leave_out_existing(connection: Connection, changes: _TaskChanges) -> None:
    existing = {
        run_id for (run_id,) in connection.select_in(_EXISTING, [run.id for run in changes.added])
    }
    changes.added[:] = [run for run in changes.added if run.id not in existing]
    changes.claimed[:] = [run for run in changes.claimed if run.id not in existing]


def _write_tasks(
    connection: Connection, changes: _TaskChanges, *, now: Instant, lease_us: Span, boot: Span
) -> None:
    if changes.moves:
        connection.update_many(_MOVE, changes.moves)
    if changes.folded:
        connection.update_many(_FOLD, [(run.count, run.id) for run in changes.folded.values()])
    if changes.added:
        insert_runs(connection, changes.added, now=now, lease_us=lease_us, mark=boot)


def _write_pending(
    connection: Connection, caller: SqlCaller, pending: StillPending, *, now: Instant, boot: Span
) -> Sequence[Run]:
    """Close and claim pending runs; return those that were claimed."""
    if pending.closed:
        close_runs(connection, pending.closed)
    if not pending.selected:
        return ()
    return claim_runs(connection, caller, pending.selected, now=now, boot=boot)


def _has_claimable_waiting_run(connection: Connection, tasks: Iterable[PlannedTask]) -> bool:
    """Return whether a waiting run was added although no run of its task is claimed.

    A waiting run is claimed when the run before it ends. Here the run before it is pending itself,
    and not due yet, as after the clock was set back: nothing would end, and wake a process. So the
    new run is claimed by the next call, at once.
    """
    waiting = {
        (one.definition.name, one.partition)
        for one in tasks
        if one.plan.opened is not None and one.plan.opened.waits
    }
    if not waiting:
        return False
    claimed = connection.select_in(_CLAIMED, sorted({task for task, _ in waiting}))
    return bool(waiting - {(task, partition) for task, partition in claimed})


def claims_of(planned: ClaimPlan, runs: Iterable[Run], good_until: Span) -> list[Claim]:
    """Return the claims on *runs*, ordered by fire time."""
    known = {one.definition.name: one.definition for one in planned.tasks}
    known.update(planned.pending.known)
    claims = [Claim(run, known[run.task], good_until) for run in runs]
    claims.sort(key=lambda claim: claim.run.fire_time)
    return claims
