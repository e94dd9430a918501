"""What the rules of a shared store work on: task rows, their caller, and snapshots.

Both kinds of storage, SQL and Redis, decode what they keep into these values, so that each rule in
this package is written once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.cursor import BEFORE_TIME, Cursor, due_at
from pulse.core.gaps import Gap  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.policies import Misfire, OnAbandoned
from pulse.core.schedule_text import schedule_text
from pulse.store.rules import CONFIG, RUNTIME
from pulse.store.steering import Pause, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pulse.core.run import Run
    from pulse.core.run_query import LastRuns
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member


class Skip(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The record of skipped fire times into which the next skip of the task is folded."""

    oldest: Instant
    count: int
    reason: str


class TaskRow(msgspec.Struct, frozen=True, gc=False):
    """One task in one partition.

    The order of the fields is the record format of Redis (`pulse.store.redis.codec`).

    Attributes:
        version: changes with every change of the row; a write compares it.
        max_concurrent: how many runs may be claimed at once; kept on Redis alone, whose script
            `read_due` filters by it.
        parks: whether a due fire time without a free slot stays undecided; kept on Redis alone.
        max_unfinished: how many runs may be unfinished, claimed or pending.
        rerun: whether an abandoned run is dispatched again.
        due_at: when `next_fire` is due: later by the jitter.
        order: rises from row to row: of two rows that are due at once, the lower one comes first.
        resumed_at: when the last pause ended, until the next claim.
        skip: the record of the last skip, while no other fire time was decided after it.
        task_json: the definition of a run-time task; None for a declared one.
        gaps: spans before the last decided fire time in which no tick ran.

    """

    version: int
    digest: str
    max_concurrent: int
    parks: bool
    source: str
    task: str
    partition: str
    scope: str
    schedule: str
    max_unfinished: int
    rerun: bool
    anchor: Instant
    next_fire: Instant | None
    due_at: Instant | None
    last_decided: Instant
    order: int
    paused: bool = False
    resumed_at: Instant | None = None
    skip: Skip | None = None
    archived_at: Instant | None = None
    task_json: str | None = None
    gaps: tuple[Gap, ...] = ()

    @property
    def task_key(self) -> str:
        """The key of the row: its partition and its task."""
        return task_key(self.task, self.partition)

    def cursor(self) -> Cursor:
        """Return the position of the task in its schedule."""
        delay = 0 if self.next_fire is None or self.due_at is None else self.due_at - self.next_fire
        return Cursor(
            self.anchor, self.next_fire, self.last_decided, delay, self.gaps, self.partition
        )

    def state(
        self,
        unfinished: int,
        last: LastRuns,
        *,
        pause: Pause | None,
        settings: Mapping[str, str],
    ) -> TaskState:
        """Return the row as `Steering.tasks` does; *unfinished* of its runs are unfinished."""
        return TaskState(
            name=self.task,
            partition=self.partition,
            source=self.source,
            digest=self.digest,
            paused=self.paused,
            anchor=self.anchor,
            next_fire=self.next_fire,
            last_decided=None if self.last_decided == BEFORE_TIME else self.last_decided,
            unfinished=unfinished,
            pause=(pause or Pause()) if self.paused else None,
            schedule=dict(msgspec.json.decode(self.schedule)),
            settings=settings,
            last_outcome=last.outcome,
            last_end=last.ended_at,
            last_success=last.succeeded_at,
            failures=last.failures,
        )

    def changed(self, **fields: object) -> TaskRow:
        """Return the row with other values of *fields*, as its next version."""
        return msgspec.structs.replace(self, version=self.version + 1, **fields)


def task_key(task: str, partition: str) -> str:
    """Return the key of a task in a partition; the name of a partition has no slash."""
    return f"{partition}/{task}"


def row_of_definition(
    definition: TaskDefinition,
    partition: str,
    was: TaskRow | None,
    *,
    cursor: Cursor,
    paused: bool,
    task_json: str | None,
) -> TaskRow:
    """Return the row that holds *definition* at *cursor*; with *task_json* a run-time task's.

    The row is the next version of *was*, if there was one.
    """
    return TaskRow(
        version=1 if was is None else was.version + 1,
        digest=definition.digest,
        max_concurrent=definition.max_concurrent,
        parks=definition.misfire is Misfire.ALL and definition.grace_us is None,
        source=CONFIG if task_json is None else RUNTIME,
        task=definition.name,
        partition=partition,
        scope=definition.scope.value,
        schedule=schedule_text(definition.schedule),
        max_unfinished=definition.max_unfinished,
        rerun=definition.on_abandoned is OnAbandoned.RERUN,
        anchor=cursor.anchor,
        next_fire=cursor.next_fire,
        due_at=due_at(cursor),
        last_decided=cursor.last_decided,
        order=0 if was is None else was.order,
        paused=paused,
        gaps=cursor.gaps,
        task_json=task_json,
    )


class Caller(NamedTuple):
    """This process, as the rules of a shared store see it.

    Attributes:
        member: the process.
        space: `pulse.config.name`.
        definitions: the tasks of its configuration, by name.
        load_task: returns the definition of a run-time task, from its name and its JSON.
        partitions: the partitions in which the process takes part.
        manifest: the key of the manifest of *definitions*.
        keep_runs: about how many finished runs of each task are kept.

    """

    member: Member
    space: str
    definitions: Mapping[str, TaskDefinition]
    load_task: Callable[[str, str], TaskDefinition]
    partitions: frozenset[str]
    manifest: str
    keep_runs: int

    def may_run(self, row: TaskRow) -> bool:
        """Return whether this process may run the task of *row*.

        A run-time task may be run by every process. A declared task may be run where the process
        declares the definition that the row holds.
        """
        if row.task_json is not None:
            return True
        declared = self.definitions.get(row.task)
        return declared is not None and declared.digest == row.digest

    def define(self, row: TaskRow) -> TaskDefinition:
        """Return the definition of a row that this process may run.

        Raises:
            ConfigError: a newer release of pulse wrote the JSON of the run-time task.

        """
        if row.task_json is None:
            return self.definitions[row.task]
        return self.load_task(row.task, row.task_json)


class DueRow(msgspec.Struct, frozen=True, gc=False):
    """A row that is due, and how many of its runs are unfinished and claimed."""

    row: TaskRow
    unfinished: int
    claimed: int


class PendingRow(msgspec.Struct, frozen=True, gc=False):
    """A pending run that is due, the row of its task, and how many runs of it are claimed."""

    run: Run
    row: TaskRow
    claimed: int


class DueSnapshot(NamedTuple):
    """What one consistent read found to do.

    Attributes:
        now: the store's clock.
        rows: rows in order of `due_at`, read as they are iterated, until as many due rows are found
            as the caller asked for, or until the first row that is not due yet. SQL leaves the
            fields of a row empty that no claim needs: schedule, scope, source, rerun,
            max_concurrent. A change of such a row is written with *moves_only*.
        pending: pending runs in order of `retry_at`, read as they are iterated. A run that is not
            due yet ends them.
        next_wakeup: when there is more to do than *rows* and *pending* say; None for never.
        more_at: when the first row is due that was found beyond the limit; None where all rows
            fitted. A further read continues there.
        reserved: the storage has reserved the rows for this process; those that the process does
            not change are to be released.

    """

    now: Instant
    rows: Iterable[DueRow]
    pending: Iterable[PendingRow]
    next_wakeup: Instant | None = None
    more_at: Instant | None = None
    reserved: bool = False


class TaskSnapshot(NamedTuple):
    """Rows by key, how many of their runs are unfinished, and which tasks are paused.

    `EVERY_TASK` is among the paused ones while all tasks are.
    """

    now: Instant
    rows: Mapping[str, TaskRow]
    unfinished: Mapping[str, int]
    paused: frozenset[str]

    def in_use(self) -> TaskSnapshot:
        """Return the snapshot without archived rows."""
        rows = {key: row for key, row in self.rows.items() if row.archived_at is None}
        return self._replace(rows=rows)
