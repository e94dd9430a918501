"""What one call of the memory store's `claim_due` wins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import Claim, Outcome, Run, run_id
from pulse.core.run_transitions import not_run_record, waiting_run
from pulse.store.base import RewoundTask

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.planner import NewRun, NotRun, Plan
    from pulse.core.task import TaskDefinition
    from pulse.store.base import FailedTask
    from pulse.store.memory.runs import RunTable
    from pulse.store.memory.tasks import MemoryTaskRow


class ClaimCall(msgspec.Struct):
    """One call of `claim_due`: records what was decided, and collects the result."""

    space: str
    holder: str
    runs: RunTable
    now: Instant
    boot: Span
    good_until: Span
    limit: int
    claims: list[Claim] = []
    not_run: list[Run] = []
    expired_retries: list[Run] = []
    failed_tasks: list[FailedTask] = []
    rewound: list[RewoundTask] = []

    def take(self, definition: TaskDefinition) -> None:
        """Claim the run that `RunTable.next_pending` returned last."""
        run = self.runs.claim_pending(holder=self.holder, now=self.now, mark=self.boot).run
        self.claims.append(Claim(run, definition, self.good_until))

    def record(self, row: MemoryTaskRow, decided: Plan) -> None:
        """Record the plan of a row."""
        if decided.missed is not None:
            self.not_run.append(self._miss(row, decided.missed))
        if decided.skipped is not None:
            self.not_run.append(self._skip(row, decided.skipped))
        if decided.refused is not None:
            self.rewound.append(
                RewoundTask(
                    row.definition.name, row.partition, decided.refused, decided.cursor.next_fire
                )
            )
        if decided.opened is not None:
            self._open(row, decided.opened)

    def _open(self, row: MemoryTaskRow, opened: NewRun) -> None:
        task, partition = row.definition.name, row.partition
        row.unfinished += 1
        row.skip = None
        if opened.waits:
            run = waiting_run(self.space, task, partition=partition, opened=opened, now=self.now)
            self.runs.add_claimed(run, 0)
            return
        fire_time = opened.scheduled_for
        run = Run(
            id=run_id(self.space, task, partition, fire_time),
            task=task,
            partition=partition,
            fire_time=fire_time,
            scheduled_for=fire_time,
            trigger=opened.trigger,
            holder=self.holder,
            claimed_at=self.now,
        )
        self.runs.add_claimed(run, self.boot)
        self.claims.append(Claim(run, row.definition, self.good_until))

    def _miss(self, row: MemoryTaskRow, missed: NotRun) -> Run:
        row.skip = None
        return self.runs.add(self._record_not_run(row, missed, Outcome.MISSED)).run

    def _skip(self, row: MemoryTaskRow, skipped: NotRun) -> Run:
        if row.skip is None or not self.runs.keeps(row.skip):
            row.skip = self.runs.add(self._record_not_run(row, skipped, Outcome.SKIPPED))
        else:
            run = row.skip.run
            row.skip.run = msgspec.structs.replace(run, count=run.count + skipped.count)
        return row.skip.run

    def _record_not_run(self, row: MemoryTaskRow, not_run: NotRun, outcome: Outcome) -> Run:
        name = row.definition.name
        return not_run_record(
            self.space, name, partition=row.partition, passed=not_run, outcome=outcome
        )
