"""Claiming: one read that plans, then one short write that compares versions and commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pulse.core.planner import Cursor, due_at, plan
from pulse.core.run import Claim, Outcome, Run, run_id
from pulse.core.run_transitions import not_run_record, waiting_run
from pulse.store.base import FailedTask
from pulse.store.rules import plan_resumed
from pulse.store.shared.recovery import defer_skip, recheck_at
from pulse.store.sql.database import Update
from pulse.store.sql.pending_runs import claim_runs, close_runs, lock_pending, select_pending
from pulse.store.sql.runs import insert_runs, read_runs, trim_history

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.planner import Plan
    from pulse.core.task import TaskDefinition
    from pulse.store.sql.caller import SqlCaller
    from pulse.store.sql.database import Cell, Connection, DueRows
    from pulse.store.sql.pending_runs import PendingSelection, Spot

_VERSIONS = (
    "SELECT key, version, due_at FROM @tasks WHERE key IN (?*) ORDER BY key FOR UPDATE SKIP LOCKED"
)
_HELD = "SELECT task, place FROM @runs WHERE outcome IS NULL AND holder <> '' AND task IN (?*)"
_EXISTING = "SELECT id FROM @runs WHERE id IN (?*)"
_MOVE = Update(
    "@tasks",
    sets=("next_fire", "due_at", "floor", "skip_id"),
    keys=("key",),
    also="resumed_at = NULL, version = version + 1",
)
_FOLD = Update("@runs", sets=("count",), keys=("id",))


class PlannedTask(NamedTuple):
    """A row that is due, as it was read, and what the planner says."""

    key: int
    version: int
    due: Instant
    definition: TaskDefinition
    partition: str
    skip_id: str | None
    unfinished: int
    plan: Plan

    def opens_claimed_run(self) -> bool:
        """Return whether a run begins with it."""
        return self.plan.opened is not None and not self.plan.opened.waits


class ClaimPlan(NamedTuple):
    """What one look found to do, and when there is more."""

    now: Instant
    tasks: Sequence[PlannedTask]
    pending: PendingSelection
    next_wakeup: Instant | None
    failed_tasks: Sequence[FailedTask]

    def is_work(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self.tasks or self.pending.selected or self.pending.closed)


class WrittenClaims(NamedTuple):
    """What the write won.

    Attributes:
        runs: those now held.
        not_run: rows of fire times that do not run.
        expired_retries: runs that nobody retried in time.
        next_wakeup: the next instant of work.
        contested: whether others have taken something of it.

    """

    runs: Sequence[Run]
    not_run: Sequence[Run]
    expired_retries: Sequence[Run]
    next_wakeup: Instant | None
    contested: bool


def plan_due(caller: SqlCaller, look: DueRows, limit: int, *, recovering: bool) -> ClaimPlan:
    """Return what is due and what the planner says, opening at most *limit* runs.

    While *patient* no tick is skipped: see `pulse.store.shared.recovery`.
    """
    now = look.now
    pending = select_pending(caller, look.pending, now=now, limit=limit)
    planned_tasks: list[PlannedTask] = []
    failed_tasks: list[FailedTask] = []
    room, next_wakeup = limit - len(pending.selected), pending.next_wakeup
    for row in _own_rows(caller, look.due):
        planned = None if row[0] > now else _plan_row(caller, row, now, pending, failed_tasks)
        if planned is not None and defer_skip(
            planned.definition, planned.plan, now=now, recovering=recovering
        ):
            next_wakeup = recheck_at(now, next_wakeup)
            continue
        if row[0] > now or (room <= 0 and planned is not None):
            next_wakeup = earliest(row[0], next_wakeup)
            break
        if planned is not None:
            planned_tasks.append(planned)
            room -= planned.opens_claimed_run()
    return ClaimPlan(now, planned_tasks, pending, next_wakeup, failed_tasks)


def _own_rows(caller: SqlCaller, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    return (row for row in rows if caller.may_run(row[2], row[4], row[11]))


def _plan_row(
    caller: SqlCaller,
    row: tuple[Any, ...],
    now: Instant,
    pending: PendingSelection,
    failed_tasks: list[FailedTask],
) -> PlannedTask | None:
    due, key, task, partition, _, anchor, next_fire, last_decided, *rest = row
    resumed_at, version, skip_id, words, unfinished = rest
    unfinished -= pending.count_closed(task, partition)
    cursor = Cursor(anchor, next_fire, last_decided, due - next_fire)
    try:
        definition = caller.define(task, words)
        decided = plan_resumed(
            definition, cursor, resumed_at=resumed_at, unfinished=unfinished, now=now
        )
    # One bad schedule, or one of a newer release, must not keep the other tasks from being claimed.
    except Exception as error:  # noqa: BLE001 - the reason is above
        failed_tasks.append(FailedTask(task, error))
        return None
    if decided is None:
        return None
    return PlannedTask(key, version, due, definition, partition, skip_id, unfinished, decided)


def earliest(one: Instant | None, other: Instant | None) -> Instant | None:
    """Return the earlier of two instants, each of which may be none."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def write_claims(
    connection: Connection, caller: SqlCaller, reading: ClaimPlan, *, boot: Span, wary: bool = False
) -> WrittenClaims:
    """Open what nobody else has taken since the reading.

    Args:
        connection: the connection, inside a write transaction.
        caller: the process that claims.
        reading: what was due, and the plans.
        boot: the boot clock when the attempt began.
        wary: whether to look for runs that exist although their row's cursor says otherwise.

    """
    now = reading.now
    rows_now = _lock_rows(connection, reading)
    pending = lock_pending(connection, reading.pending, rows_now)
    planned_tasks, instants = _unchanged(reading.tasks, rows_now, pending.lost)
    skips = read_runs(
        connection, [one.skip_id for one in planned_tasks if one.skip_id and one.plan.skipped]
    )
    opened: list[Run] = []
    passed: list[Run] = []
    rows: list[Run] = []
    moves: list[tuple[Cell, ...]] = []
    for planned in planned_tasks:
        skip_id = _record(caller, planned, skips, rows=rows, passed=passed)
        run = _opened(caller, planned, now)
        if run is not None:
            skip_id = None
            rows.append(run)
            if run.holder:
                opened.append(run)
        cursor = planned.plan.cursor
        moves.append((cursor.next_fire, due_at(cursor), cursor.last_decided, skip_id, planned.key))
        instants.append(_next_work(planned, now))
    connection.update_many(_MOVE, moves)
    connection.update_many(_FOLD, [(run.count, run.id) for run in skips.values()])
    if wary:
        existing = {
            run_id for (run_id,) in connection.select_in(_EXISTING, [run.id for run in rows])
        }
        rows = [run for run in rows if run.id not in existing]
        opened = [run for run in opened if run.id not in existing]
    insert_runs(connection, rows, now=now, lease_us=caller.member.lease_us, mark=boot)
    close_runs(connection, pending.closed)
    taken = claim_runs(connection, caller, pending.selected, now=now, boot=boot)
    trim_history(connection, rows, keep=caller.keep_runs)
    if _some_waits_for_nobody(connection, planned_tasks):
        instants.append(now)
    next_wakeup = reading.next_wakeup
    for instant in instants:
        next_wakeup = earliest(next_wakeup, instant)
    missed = [run for run in pending.closed if run.outcome is Outcome.MISSED]
    expired_retries = [run for run in pending.closed if run.outcome is not Outcome.MISSED]
    contested = len(planned_tasks) < len(reading.tasks)
    return WrittenClaims(
        [*taken, *opened], [*missed, *passed], expired_retries, next_wakeup, contested
    )


def _some_waits_for_nobody(connection: Connection, planned_tasks: Iterable[PlannedTask]) -> bool:
    """Return whether a run was opened that waits for one that nobody holds either.

    That one is not due itself, as after the clock was set back: the next look may take the new one.
    """
    waiting = {
        (one.definition.name, one.partition)
        for one in planned_tasks
        if one.plan.opened is not None and one.plan.opened.waits
    }
    held = connection.select_in(_HELD, sorted(task for task, _ in waiting)) if waiting else ()
    return bool(waiting - {(task, partition) for task, partition in held})


def _next_work(planned: PlannedTask, now: Instant) -> Instant | None:
    """Return when the row has work again; None while it waits for one of its runs to end."""
    moved = planned.plan.cursor
    due = due_at(moved)
    if due is None or due > now:
        return due
    unfinished = planned.unfinished + (planned.plan.opened is not None)
    try:
        waits = plan(planned.definition, moved, unfinished, now) is None
    # The next look tells of it: what this one has won stands.
    except Exception:  # noqa: BLE001 - the reason is above
        waits = False
    return None if waits else due


def _lock_rows(connection: Connection, reading: ClaimPlan) -> dict[int, tuple[int, Instant | None]]:
    """Keep others from claiming; return version and instant of rows that nobody else claims."""
    keys = {one.key for one in reading.tasks} | set(reading.pending.keys.values())
    return {
        key: (version, due) for key, version, due in connection.select_in(_VERSIONS, sorted(keys))
    }


def _unchanged(
    planned_tasks: Sequence[PlannedTask],
    found: Mapping[int, tuple[int, Instant | None]],
    lost: frozenset[Spot],
) -> tuple[list[PlannedTask], list[Instant | None]]:
    """Return the intents whose rows stand as they were read, and when the others are due.

    A plan that counted on a retry to be given up falls with it: somebody has taken it since.
    """
    kept: list[PlannedTask] = []
    moved: list[Instant | None] = []
    for one in planned_tasks:
        version, due = found.get(one.key, (None, one.due))
        if version == one.version and (one.definition.name, one.partition) not in lost:
            kept.append(one)
        else:
            moved.append(due)
    return kept, moved


def _opened(caller: SqlCaller, planned: PlannedTask, now: Instant) -> Run | None:
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


def _record(
    caller: SqlCaller,
    planned: PlannedTask,
    skips: dict[str, Run],
    *,
    rows: list[Run],
    passed: list[Run],
) -> str | None:
    """Write down what is missed and skipped; return the skip that a next one may fold into.

    One that is folded goes on in *skips*, which are the runs that may be folded into.
    """
    decided, task, partition = planned.plan, planned.definition.name, planned.partition
    skip_id = planned.skip_id
    if decided.missed is not None:
        skip_id = None
        missed = not_run_record(
            caller.space, task, partition=partition, passed=decided.missed, outcome=Outcome.MISSED
        )
        rows.append(missed)
        passed.append(missed)
    if decided.skipped is not None:
        folded = None if skip_id is None else _fold(skips, skip_id, decided.skipped.count)
        skipped = folded or not_run_record(
            caller.space, task, partition=partition, passed=decided.skipped, outcome=Outcome.SKIPPED
        )
        if folded is None:
            rows.append(skipped)
        passed.append(skipped)
        skip_id = skipped.id
    return skip_id


def _fold(skips: dict[str, Run], skip_id: str, count: int) -> Run | None:
    run = skips.get(skip_id)
    if run is None:
        return None
    skips[skip_id] = msgspec.structs.replace(run, count=run.count + count)
    return skips[skip_id]


def claims_of(reading: ClaimPlan, runs: Iterable[Run], good_until: Span) -> list[Claim]:
    """Return the claims on *runs*, in order of fire time."""
    known = {one.definition.name: one.definition for one in reading.tasks}
    known.update(reading.pending.known)
    claims = [Claim(run, known[run.task], good_until) for run in runs]
    claims.sort(key=lambda claim: claim.run.fire_time)
    return claims
