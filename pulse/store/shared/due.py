"""Plans what is due: reads snapshots and asks the planner what becomes of each due row."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.store.base import FailedTask
from pulse.store.rules import plan_resumed
from pulse.store.shared.pending_runs import select_pending
from pulse.store.shared.recovery import defer_skip, recheck_at
from pulse.store.shared.rows import earliest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.clock import Instant
    from pulse.core.planner import Plan
    from pulse.core.task import TaskDefinition
    from pulse.store.shared.backend import Session
    from pulse.store.shared.caller import Caller
    from pulse.store.shared.pending_runs import PendingSelection
    from pulse.store.shared.rows import DueRow, DueSnapshot, TaskRow


class PlannedTask(NamedTuple):
    """A due row as it was read, and what the planner decided.

    Attributes:
        unfinished: how many of its runs are unfinished, without those that this claim ends.
        claimed: how many are claimed, with those that this claim takes.

    """

    row: TaskRow
    definition: TaskDefinition
    unfinished: int
    claimed: int
    plan: Plan

    def opens_claimed_run(self) -> bool:
        """Return whether a run begins with it."""
        return self.plan.opened is not None and not self.plan.opened.waits


class ClaimPlan(NamedTuple):
    """What a claim is to write, and when there is more to do.

    Attributes:
        unused: keys of rows that were read and are left as they are; a storage may have reserved
            them.

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


def plan_due(session: Session, caller: Caller, limit: int, *, recovering: bool) -> ClaimPlan:
    """Return what is due and what the planner decided, with at most *limit* runs to claim.

    While *recovering* no tick is skipped: see `pulse.store.shared.recovery`.
    """
    snapshot = session.read_due(caller, limit, pending=True)
    pending = select_pending(caller, snapshot, limit)
    planner = _RowPlanner(caller, pending, snapshot.now, limit, recovering=recovering)
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

    __slots__ = (
        "_caller",
        "_limit",
        "_pending",
        "_recovering",
        "failed_tasks",
        "next_wakeup",
        "now",
        "room",
        "tasks",
        "unused",
    )

    def __init__(
        self,
        caller: Caller,
        pending: PendingSelection,
        now: Instant,
        limit: int,
        *,
        recovering: bool,
    ) -> None:
        self._caller = caller
        self._pending = pending
        self._recovering = recovering
        self._limit = limit
        self.now: Instant = now
        self.room: int = limit - len(pending.selected)
        self.next_wakeup: Instant | None = pending.next_wakeup
        self.tasks: list[PlannedTask] = []
        self.failed_tasks: list[FailedTask] = []
        self.unused: list[str] = []

    def add(self, snapshot: DueSnapshot) -> bool:
        """Plan the rows of a snapshot; return whether a further read would find more to claim."""
        self.next_wakeup = earliest(self.next_wakeup, snapshot.next_wakeup)
        found_any = False
        for found in snapshot.rows:
            found_any = True
            if not self._add_row(found) and not snapshot.reserved:
                break
        if snapshot.more_at is None:
            return False
        if self.room > 0 and found_any and self._limit > 0:
            return True
        self.next_wakeup = earliest(self.next_wakeup, snapshot.more_at)
        return False

    def _add_row(self, found: DueRow) -> bool:
        """Plan one row; return whether a later row may be claimed as well."""
        row = found.row
        if not self._caller.may_run(row):
            self.unused.append(row.task_key)
            return True
        if row.due_at is None or row.due_at > self.now:
            self.next_wakeup = earliest(self.next_wakeup, row.due_at)
            return False
        planned = self._plan(found)
        if planned is None:
            self.unused.append(row.task_key)
        elif self._is_deferred(planned):
            self.unused.append(row.task_key)
            self.next_wakeup = recheck_at(self.now, self.next_wakeup)
        elif self.room <= 0:
            self.unused.append(row.task_key)
            self.next_wakeup = earliest(self.next_wakeup, row.due_at)
            return False
        else:
            self.tasks.append(planned)
            self.room -= planned.opens_claimed_run()
        return True

    def _is_deferred(self, planned: PlannedTask) -> bool:
        return defer_skip(
            planned.definition, planned.plan, now=self.now, recovering=self._recovering
        )

    def _plan(self, found: DueRow) -> PlannedTask | None:
        row = found.row
        unfinished = found.unfinished - self._pending.count_closed(row.task_key)
        claimed = found.claimed + self._pending.count_selected(row.task_key)
        try:
            definition = self._caller.define(row)
            plan = plan_resumed(
                definition,
                row.cursor(),
                resumed_at=row.resumed_at,
                unfinished=unfinished,
                now=self.now,
            )
        # A schedule that raises, or one of a newer release, must not keep other tasks from running.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self.failed_tasks.append(FailedTask(row.task, error))
            return None
        return None if plan is None else PlannedTask(row, definition, unfinished, claimed, plan)
