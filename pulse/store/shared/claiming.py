"""Claims what is due: reads a snapshot, plans each due row, and writes one change set.

The change set adds the runs and moves the cursors. It compares the version of each row, so that of
several processes that planned the same row one wins. What another process won is absent from the
result.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.core.cursor import due_at
from pulse.core.planner import NotRun, has_free_slot, plan
from pulse.core.run import Claim, Outcome, Run, run_id
from pulse.core.run_transitions import claim_run, not_run_record, waiting_run
from pulse.store.base import Claimed, FailedTask, RewoundTask
from pulse.store.rules import plan_resumed
from pulse.store.shared.changes import Applied, ChangeSet, RunChange, TaskChange
from pulse.store.shared.pending_runs import NOTHING_PENDING, select_pending
from pulse.store.shared.recovery import defer_skip, recheck_at
from pulse.store.shared.rows import Skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.planner import NewRun, Plan
    from pulse.core.task import TaskDefinition
    from pulse.store.shared.backend import Session
    from pulse.store.shared.pending_runs import PendingSelection
    from pulse.store.shared.recovery import RecoveryWindow
    from pulse.store.shared.rows import Caller, DueRow, DueSnapshot, TaskRow


# Planning --------------------------------------------------------------------------------


class PlannedTask(msgspec.Struct, frozen=True, gc=False):
    """A due row as it was read, and what the planner decided.

    Attributes:
        unfinished: how many of its runs are unfinished, excluding those that this claim ends.
        claimed: how many are claimed, including those that this claim takes.

    """

    row: TaskRow
    definition: TaskDefinition
    unfinished: int
    claimed: int
    plan: Plan

    def opens_claimed_run(self) -> bool:
        """Return whether the plan opens a run that is claimed now."""
        return self.plan.opened is not None and not self.plan.opened.waits


class ClaimPlan(NamedTuple):
    """What a claim is to write, and when there is more to do.

    Attributes:
        unused: keys of rows that the storage has reserved and that are left as they are.

    """

    now: Instant
    tasks: Sequence[PlannedTask]
    pending: PendingSelection
    next_wakeup: Instant | None
    failed_tasks: Sequence[FailedTask]
    unused: Sequence[str]

    def is_work(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self.tasks or self.pending.selected or self.pending.closed)


def plan_due(
    session: Session,
    caller: Caller,
    limit: int,
    *,
    recovery: RecoveryWindow,
    boot: Span,
    first: Callable[[], DueSnapshot] | None = None,
) -> ClaimPlan:
    """Return what is due and what the planner decided, with at most *limit* runs to claim.

    *first* gives a snapshot that was read already; without it the first one is read here. While
    *recovery* is open at *boot*, no tick is skipped: see `pulse.store.shared.recovery`.
    """
    snapshot = session.read_due(caller, limit, pending=True) if first is None else first()
    pending = select_pending(caller, snapshot, limit) if snapshot.pending else NOTHING_PENDING
    planner = _RowPlanner(caller, pending, snapshot.now, limit, recovery, boot=boot)
    while planner.add(snapshot):
        snapshot = session.read_due(caller, planner.room, pending=False)
    return ClaimPlan(
        planner.now,
        planner.tasks,
        pending,
        planner.next_wakeup,
        planner.failed_tasks,
        planner.unused,
    )


class _RowPlanner:
    """Plans due rows one after the other, until no slot is free or nothing more is due."""

    def __init__(
        self,
        caller: Caller,
        pending: PendingSelection,
        now: Instant,
        limit: int,
        recovery: RecoveryWindow,
        *,
        boot: Span,
    ) -> None:
        self._caller = caller
        self._has_pending = pending is not NOTHING_PENDING
        if self._has_pending:
            self._closed, self._selected = pending.count_closed(), pending.count_selected()
        self._recovery = recovery
        self._boot = boot
        self._limit = limit
        self.now: Instant = now
        self.room: int = limit - len(pending.selected)
        self.next_wakeup: Instant | None = pending.next_wakeup
        self.tasks: list[PlannedTask] = []
        self.failed_tasks: list[FailedTask] = []
        self.unused: list[str] = []

    def add(self, snapshot: DueSnapshot) -> bool:
        """Plan the rows of a snapshot; return whether a further read would find more to claim."""
        self.next_wakeup = _earliest(self.next_wakeup, snapshot.next_wakeup)
        found_any = False
        for found in snapshot.rows:
            found_any = True
            # Each reserved row must be planned or be released, so all of them are read.
            if not self._add_row(found) and not snapshot.reserved:
                break
        if not snapshot.reserved:
            self.unused.clear()  # nothing to release
        if snapshot.more_at is None:
            return False
        if self.room > 0 and found_any and self._limit > 0:
            return True
        self.next_wakeup = _earliest(self.next_wakeup, snapshot.more_at)
        return False

    def _add_row(self, found: DueRow) -> bool:
        """Plan one row; return whether a later row may be claimed as well."""
        row = found.row
        if not self._caller.may_run(row):
            self.unused.append(row.task_key)
            return True
        if row.due_at is None or row.due_at > self.now:
            self.unused.append(row.task_key)
            self.next_wakeup = _earliest(self.next_wakeup, row.due_at)
            return False
        planned = self._plan(found)
        if planned is None:
            self.unused.append(row.task_key)
        elif planned.plan.skipped is not None and self._is_deferred(planned):
            self.unused.append(row.task_key)
            self.next_wakeup = recheck_at(self.now, self.next_wakeup)
        elif self.room <= 0:
            self.unused.append(row.task_key)
            self.next_wakeup = _earliest(self.next_wakeup, row.due_at)
            return False
        else:
            self.tasks.append(planned)
            self.room -= planned.opens_claimed_run()
        return True

    def _is_deferred(self, planned: PlannedTask) -> bool:
        if not self._recovery.is_open(self._boot):
            return False
        return defer_skip(planned.definition, planned.plan, now=self.now)

    def _plan(self, found: DueRow) -> PlannedTask | None:
        row = found.row
        unfinished, claimed = found.unfinished, found.claimed
        if self._has_pending:
            unfinished -= self._closed[row.task_key]
            claimed += self._selected[row.task_key]
        try:
            definition = self._caller.define(row)
            decided = self._decide(row, definition, unfinished)
        # A schedule that raises, or one of a newer release, must not keep other tasks from running.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self.failed_tasks.append(FailedTask(row.task, error))
            return None
        if decided is None:
            return None
        return PlannedTask(row, definition, unfinished, claimed, decided)

    def _decide(self, row: TaskRow, definition: TaskDefinition, unfinished: int) -> Plan | None:
        if row.resumed_at is None:
            return plan(definition, row.cursor(), unfinished, self.now)
        return plan_resumed(
            definition,
            row.cursor(),
            resumed_at=row.resumed_at,
            unfinished=unfinished,
            now=self.now,
        )


# Writing ---------------------------------------------------------------------------------


class ClaimWrite(NamedTuple):
    """The change set of a claim, and its results if it is applied.

    Attributes:
        claimed: the pending runs as this process then holds them, in the order of *changes.runs*.
        outcomes: the result of each planned row, in the order of *changes.tasks*.

    """

    changes: ChangeSet
    claimed: Sequence[Run]
    outcomes: Sequence[TaskOutcome]


class TaskOutcome(NamedTuple):
    """The result of a planned row: its change, its claimed run, and what does not run."""

    planned: PlannedTask
    change: TaskChange
    claimed: Run | None
    not_run: Sequence[Run]


def prepare_write(caller: Caller, found: ClaimPlan, *, boot: Span) -> ClaimWrite:
    """Return the change set that claims what *found* decided.

    Args:
        caller: the process that claims.
        found: what is due and what the planner decided.
        boot: the boot clock when the claim began.

    """
    now, pending = found.now, found.pending
    outcomes = [_outcome_of(caller, planned, now) for planned in found.tasks]
    claimed = [claim_run(one.run, caller.member.holder, now) for one in pending.selected]
    added = [run for one in outcomes for run in one.change.runs]
    changes = ChangeSet(
        now=now,
        lease_us=caller.member.lease_us,
        boot=boot,
        closed=[RunChange(one.was, one.run, one.row) for one in pending.closed],
        tasks=[one.change for one in outcomes],
        runs=[
            RunChange(one.run, run, one.row, max_claimed=one.definition.max_concurrent)
            for one, run in zip(pending.selected, claimed, strict=True)
        ],
        released=found.unused,
        trimmed=tasks_to_trim(added, caller.keep_runs),
        keep_runs=caller.keep_runs,
        skip_locked=True,
    )
    return ClaimWrite(changes, claimed, outcomes)


def wanted_claims(found: ClaimPlan, prepared: ClaimWrite) -> list[Claim]:
    """Return what the claim wins if everything is applied; these claims are not valid."""
    tasks, runs = prepared.changes.tasks, prepared.changes.runs
    every = Applied((), [True] * len(tasks), [True] * len(runs))
    return _claims_of(found, prepared, every, 0)


def result_of(
    found: ClaimPlan, prepared: ClaimWrite, applied: Applied, good_until: Span
) -> Claimed:
    """Return what the claim won, of what was applied; its leases are good until *good_until*."""
    kept = [one for one, done in zip(prepared.outcomes, applied.tasks, strict=True) if done]
    closed = [
        one.run for one, done in zip(found.pending.closed, applied.closed, strict=True) if done
    ]
    missed = [run for run in closed if run.outcome is Outcome.MISSED]
    not_run = [run for one in kept if one.not_run for run in one.not_run]
    return Claimed(
        _claims_of(found, prepared, applied, good_until),
        [*missed, *not_run] if missed else not_run,
        found.now,
        _next_wakeup(found, kept, applied),
        found.failed_tasks,
        [run for run in closed if run.outcome is not Outcome.MISSED],
        [
            one
            for outcome in kept
            if outcome.planned.plan.refused is not None or applied.existing
            if (one := _refusal_of(outcome, applied)) is not None
        ],
    )


def _refusal_of(outcome: TaskOutcome, applied: Applied) -> RewoundTask | None:
    """Return the refusal of a fire time that ran before, or of those until the next one."""
    refused, row = outcome.planned.plan.refused, outcome.change.row
    if applied.existing:
        runs = outcome.change.runs
        ran = [one for one in runs if one.outcome is None and one.id in applied.existing]
        refused = ran[0].fire_time if ran else refused
    if refused is None:
        return None
    return RewoundTask(row.task, row.partition, refused, row.next_fire)


def _outcome_of(caller: Caller, planned: PlannedTask, now: Instant) -> TaskOutcome:
    row, decided = planned.row, planned.plan
    run = None if decided.opened is None else _opened_run(caller, row, decided.opened, now)
    skip, folded = row.skip, None
    not_run: Sequence[Run] = ()
    if decided.missed is not None or decided.skipped is not None:
        skip, not_run, folded = _not_run_of(caller, planned)
    cursor = decided.cursor
    moved = row.changed(
        next_fire=cursor.next_fire,
        due_at=due_at(cursor),
        last_decided=cursor.last_decided,
        gaps=cursor.gaps,
        resumed_at=None,
        skip=skip if run is None else None,
    )
    runs: Sequence[Run] = () if run is None else (run,)
    if not_run:
        runs = (*(one for one in not_run if one is not folded), *runs)
    change = TaskChange(moved, row, runs, folded, moves_only=True)
    return TaskOutcome(planned, change, run if run is not None and run.holder else None, not_run)


def _not_run_of(
    caller: Caller, planned: PlannedTask
) -> tuple[Skip | None, Sequence[Run], Run | None]:
    """Return the skip that the next skip extends, the records of what does not run, the folded one.

    A skip that directly follows a skip of the same task is folded into its record: only the count
    of the record grows.
    """
    row, decided = planned.row, planned.plan
    skip, records = row.skip, list[Run]()
    if decided.missed is not None:
        skip = None
        records.append(_record_of(caller, row, decided.missed, Outcome.MISSED))
    if decided.skipped is None:
        return skip, records, None
    skipped = decided.skipped
    if skip is not None:
        skipped = NotRun(skip.oldest, skip.count + skipped.count, skip.reason)
    record = _record_of(caller, row, skipped, Outcome.SKIPPED)
    records.append(record)
    following = Skip(skipped.oldest, skipped.count, skipped.reason)
    return following, records, None if skip is None else record


def _record_of(caller: Caller, row: TaskRow, not_run: NotRun, outcome: Outcome) -> Run:
    return not_run_record(
        caller.space, row.task, partition=row.partition, passed=not_run, outcome=outcome
    )


def _opened_run(caller: Caller, row: TaskRow, opened: NewRun, now: Instant) -> Run:
    task, partition, fire_time = row.task, row.partition, opened.scheduled_for
    if opened.waits:
        return waiting_run(caller.space, task, partition=partition, opened=opened, now=now)
    return Run(
        id=run_id(caller.space, task, partition, fire_time),
        task=task,
        partition=partition,
        fire_time=fire_time,
        scheduled_for=fire_time,
        trigger=opened.trigger,
        holder=caller.member.holder,
        claimed_at=now,
    )


def _next_wakeup(found: ClaimPlan, kept: Iterable[TaskOutcome], applied: Applied) -> Instant | None:
    """Return when there is more to do; None for never."""
    earliest = found.next_wakeup
    for due in applied.due:
        earliest = _earliest(earliest, due)
    for one in kept:
        # The plan of a row that is due again is made only if the result may depend on it.
        due = due_at(one.planned.plan.cursor)
        if earliest is None or (due is not None and due < earliest) or found.now < earliest:
            earliest = _earliest(earliest, _next_due(one.planned, due, found.now))
    return earliest


def _next_due(planned: PlannedTask, due: Instant | None, now: Instant) -> Instant | None:
    """Return when a row that is due at *due* has work again; None while a run has to end first."""
    opened = planned.plan.opened
    if opened is not None and opened.waits and planned.claimed < planned.definition.max_concurrent:
        # The run that the new one waits for is pending and not due, as after the clock was set
        # back: the next claim may take the new run.
        return now
    if due is None or due > now:
        return due
    unfinished = planned.unfinished + (opened is not None)
    if has_free_slot(planned.definition, unfinished):
        return due
    try:
        waits = plan(planned.definition, planned.plan.cursor, unfinished, now) is None
    # The next claim reports it; this one keeps what it won.
    except Exception:  # noqa: BLE001 - the reason is above
        waits = False
    return None if waits else due


_MANY_KEPT = 64
"""Where fewer runs are kept, the history is trimmed with each run that is added."""


def tasks_to_trim(runs: Iterable[Run], keep: int) -> list[str]:
    """Return the tasks whose history is trimmed with the write that adds *runs*.

    The ids of runs, which are random, decide: each task is trimmed once in so many runs, whichever
    processes add them, and nothing has to be counted. An eighth more than *keep* may be kept.
    """
    one_in = min(128, keep // 8) if keep >= _MANY_KEPT else 1
    return sorted({run.task for run in runs if int(run.id[:4], 16) % one_in == 0})


def _claims_of(
    found: ClaimPlan, prepared: ClaimWrite, applied: Applied, good_until: Span
) -> list[Claim]:
    """Return the claims that were won, in order of fire time."""
    claims = [
        Claim(one.claimed, one.planned.definition, good_until)
        for one, done in zip(prepared.outcomes, applied.tasks, strict=True)
        if done and one.claimed is not None and one.claimed.id not in applied.existing
    ]
    if prepared.claimed:
        pending = zip(prepared.claimed, found.pending.selected, applied.runs, strict=True)
        taken = [Claim(run, one.definition, good_until) for run, one, done in pending if done]
        claims = taken + claims
    claims.sort(key=attrgetter("run.fire_time"))
    return claims


def _earliest(one: Instant | None, other: Instant | None) -> Instant | None:
    """Return the earlier of two instants; None stands for never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
