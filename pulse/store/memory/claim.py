"""Claims of the memory store: which pending run is next, and what one call of `claim_due` wins.

`PendingRuns` also decides whether a finished run is retried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import Claim, Outcome, Run, run_id
from pulse.core.run_transitions import not_run_record, waiting_run
from pulse.store.base import RewoundTask
from pulse.store.rules import (
    NextTick,
    PendingDecision,
    decide_pending,
    next_attempt_at,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.clock import Instant, Span
    from pulse.core.planner import NewRun, NotRun, Plan
    from pulse.core.run import Result
    from pulse.core.task import TaskDefinition
    from pulse.store.base import FailedTask, Member
    from pulse.store.memory.runs import RunTable, StoredRun
    from pulse.store.memory.tasks import MemoryTaskRow


class PendingRuns:
    """Selects pending runs by the rows of their tasks; the caller holds the lock."""

    __slots__ = ("_rows", "_runs")

    def __init__(self, rows: Mapping[str, MemoryTaskRow], runs: RunTable) -> None:
        self._rows = rows
        self._runs = runs

    def first(self, now: Instant) -> StoredRun | None:
        """Return the first pending run that can be decided or is not due yet.

        Due runs that wait for another run are set aside on the way.
        """
        runs = self._runs
        runs.offer_retries()
        while (stored := runs.next_pending(self._is_wanted)) is not None:
            if (
                not is_due(stored.run, now)
                or self.decide(stored.run, now) is not PendingDecision.WAIT
            ):
                return stored
            runs.set_aside(stored)
        return None

    def _is_wanted(self, run: Run) -> bool:
        row = self._rows.get(run.task)
        return row is not None and not row.withdrawn and row.partition == run.partition

    def decide(self, run: Run, now: Instant) -> PendingDecision:
        """Return what happens to a pending run that is due."""
        row = self._rows[run.task]
        # Counting takes time; it is needless while fewer runs are unfinished than may be claimed.
        full = row.unfinished > row.definition.max_concurrent
        claimed = self._runs.count_claimed(run.task, run.partition) if full else 0
        return decide_pending(
            row.definition, run, next_fire=row.cursor.next_fire, claimed=claimed, now=now
        )

    def next_attempt_at(self, claim: Claim, result: Result, now: Instant) -> Instant | None:
        """Return when the run of *claim* is dispatched again after *result*; None for never."""
        row = self._rows.get(claim.run.task)
        tick = None
        if row is not None and row.partition == claim.run.partition:
            tick = NextTick(row.cursor.next_fire, row.unfinished)
        return next_attempt_at(claim, result, row=tick, now=now)


class ClaimCall:
    """One call of `claim_due`: records what was decided, and collects the result."""

    def __init__(
        self,
        space: str,
        member: Member,
        runs: RunTable,
        *,
        now: Instant,
        boot: Span,
        limit: int,
    ) -> None:
        self._space = space
        self._runs = runs
        self.holder: str = member.holder
        self.now: Instant = now
        self.boot: Span = boot
        self.good_until: Span = boot + member.lease_us
        self.limit: int = limit
        self.claims: list[Claim] = []
        self.not_run: list[Run] = []
        self.expired_retries: list[Run] = []
        self.failed_tasks: list[FailedTask] = []
        self.rewound: list[RewoundTask] = []

    def take(self, definition: TaskDefinition) -> None:
        """Claim the run that `RunTable.next_pending` returned last."""
        run = self._runs.claim_pending(holder=self.holder, now=self.now, mark=self.boot).run
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
            run = waiting_run(self._space, task, partition=partition, opened=opened, now=self.now)
            self._runs.add_claimed(run, 0)
            return
        fire_time = opened.scheduled_for
        run = Run(
            id=run_id(self._space, task, partition, fire_time),
            task=task,
            partition=partition,
            fire_time=fire_time,
            scheduled_for=fire_time,
            trigger=opened.trigger,
            holder=self.holder,
            claimed_at=self.now,
        )
        self._runs.add_claimed(run, self.boot)
        self.claims.append(Claim(run, row.definition, self.good_until))

    def _miss(self, row: MemoryTaskRow, missed: NotRun) -> Run:
        row.skip = None
        return self._runs.add(self._record_not_run(row, missed, Outcome.MISSED)).run

    def _skip(self, row: MemoryTaskRow, skipped: NotRun) -> Run:
        if row.skip is None:
            row.skip = self._runs.add(self._record_not_run(row, skipped, Outcome.SKIPPED))
        else:
            run = row.skip.run
            row.skip.run = msgspec.structs.replace(run, count=run.count + skipped.count)
        return row.skip.run

    def _record_not_run(self, row: MemoryTaskRow, not_run: NotRun, outcome: Outcome) -> Run:
        name = row.definition.name
        return not_run_record(
            self._space, name, partition=row.partition, passed=not_run, outcome=outcome
        )


def is_due(run: Run, now: Instant) -> bool:
    """Return whether a pending run may be claimed at *now*."""
    return run.retry_at is not None and run.retry_at <= now
