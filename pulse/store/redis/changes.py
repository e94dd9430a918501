"""The messages of `apply.lua`: a change set as the script takes it, and its reply."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.store.redis.client import ScriptRequest
from pulse.store.redis.codec import (
    due_member,
    row_beginning,
    row_record,
    run_record,
    unfinished_beginning,
)
from pulse.store.shared.changes import Applied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.core.run import Run
    from pulse.store.redis.client import RedisClient
    from pulse.store.shared.changes import ChangeSet, RunChange, RunInsert, TaskChange

CHUNK = 500
"""How many changes one script call makes at most, since all other clients wait meanwhile."""


class RunRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A run to create together with the change of its row.

    Attributes:
        id: the id of the run.
        record: the record of the run.
        state: claimed, pending or finished.
        at: when a pending run may be claimed.
        folds: whether an existing record of that id is overwritten (a folded skip).

    """

    id: str
    record: str
    state: str
    at: Instant | None = None
    folds: bool = False


class RowMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A row to add or to change, and the runs that are created with it.

    Attributes:
        partition: the partition of the row.
        task: the name of the task.
        member: its member in the sorted set of due rows.
        was: the text with which its record must begin; empty when no record may exist.
        record: the new record.
        runs: the runs to create.
        due: when the row is due; None to remove it from the sorted set of due rows.
        archived: when the row is archived; None for not at all.
        returned: whether an archived row comes back into use.
        paused: refuse the change unless the task is recorded as paused (True) or not (False).

    """

    partition: str
    task: str
    member: str
    was: str
    record: str
    runs: Sequence[RunRecord]
    due: Instant | None = None
    archived: Instant | None = None
    returned: bool = False
    paused: bool | None = None


class RunMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An unfinished run to change, from one state to another.

    Attributes:
        id: the id of the run.
        partition: the partition of its task row.
        task: the name of the task.
        was: the text with which its record must begin.
        record: the new record; None to renew only the lease.
        old: the present state: claimed or pending.
        new: the new state: claimed, pending or finished.
        at: when a pending run may be claimed.
        max_claimed: refuse the change while so many runs of the row are claimed.
        lease: when its lease must end: a later end means that it was renewed.
        row: the text with which the record of its task row must begin.

    """

    id: str
    partition: str
    task: str
    was: str
    old: str
    new: str
    record: str | None = None
    at: Instant | None = None
    max_claimed: int | None = None
    lease: Instant | None = None
    row: str | None = None


class ApplyRequest(ScriptRequest, kw_only=True):
    """The request of `apply.lua`.

    Attributes:
        lease: the length of new and renewed leases.
        keep: how many runs of each task of *trimmed* are kept.
        closed: pending runs that end; applied first. Rows planned after them depend on them.
        rows: rows to add or change, applied second.
        runs: other changes of runs, applied last.
        released: row keys whose reservation is removed.
        trimmed: tasks whose history is trimmed.

    """

    lease: Span
    keep: int = 0
    closed: Sequence[RunMessage] = ()
    rows: Sequence[RowMessage] = ()
    runs: Sequence[RunMessage] = ()
    released: Sequence[str] = ()
    trimmed: Sequence[str] = ()


class ApplyReply(msgspec.Struct, frozen=True):
    """The reply of `apply.lua`: for each change whether it was made.

    Attributes:
        now: the server's clock.
        closed: whether each run of `ApplyRequest.closed` was changed.
        rows: whether each row was changed.
        due: for each refused row, when it is due; False for never.
        runs: whether each run of `ApplyRequest.runs` was changed.
        existing: ids of runs that were not created because they existed.

    """

    now: Instant
    closed: Sequence[bool]
    rows: Sequence[bool]
    due: Sequence[Instant | bool]
    runs: Sequence[bool]
    existing: Sequence[str]


_REPLY = msgspec.msgpack.Decoder(ApplyReply)


def apply(server: RedisClient, changes: ChangeSet) -> Applied:
    """Apply a change set by one call of the script, or by several if it has many changes.

    The changes of a row and of its runs are always in one call.
    """
    size = len(changes.tasks) + len(changes.runs)
    if size <= CHUNK or changes.closed or changes.trimmed:
        reply = _call(server, changes, changes.tasks, changes.runs)
        due = [None if instant is False else instant for instant in reply.due]
        return Applied(reply.closed, reply.rows, reply.runs, due, frozenset(reply.existing))
    tasks, runs = [False] * len(changes.tasks), [False] * len(changes.runs)
    existing: set[str] = set()
    later: list[Instant | None] = []
    for task_numbers, run_numbers in _parts_of(changes):
        some_tasks = [changes.tasks[number] for number in task_numbers]
        some_runs = [changes.runs[number] for number in run_numbers]
        reply = _call(server, changes, some_tasks, some_runs)
        for number, done in zip(task_numbers, reply.rows, strict=True):
            tasks[number] = done
        for number, done in zip(run_numbers, reply.runs, strict=True):
            runs[number] = done
        existing.update(reply.existing)
        later += [None if instant is False else instant for instant in reply.due]
    return Applied((), tasks, runs, later, frozenset(existing))


def _parts_of(changes: ChangeSet) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the numbers of the rows and of the runs of each call."""
    runs_of: dict[tuple[str, str], list[int]] = {}
    for number, run in enumerate(changes.runs):
        runs_of.setdefault((run.was.partition, run.was.task), []).append(number)
    tasks: list[int] = []
    runs: list[int] = []
    for number, change in enumerate(changes.tasks):
        own = runs_of.pop((change.row.partition, change.row.task), [])
        if tasks and len(tasks) + len(runs) + len(own) >= CHUNK:
            yield tasks, runs
            tasks, runs = [], []
        tasks.append(number)
        runs += own
    for number in (number for own in runs_of.values() for number in own):
        if len(tasks) + len(runs) >= CHUNK:
            yield tasks, runs
            tasks, runs = [], []
        runs.append(number)
    yield tasks, runs


def _call(
    server: RedisClient,
    changes: ChangeSet,
    tasks: Sequence[TaskChange],
    runs: Sequence[RunChange],
) -> ApplyReply:
    request = ApplyRequest(
        lease=changes.lease_us,
        keep=changes.keep_runs,
        closed=[*map(_run_message, changes.closed)],
        rows=[*map(_row_message, tasks)],
        runs=[*map(_run_message, runs)],
        released=changes.released,
        trimmed=changes.trimmed,
    )
    return server.run("apply", request, _REPLY)


def _row_message(change: TaskChange) -> RowMessage:
    row, was = change.row, change.was
    in_use = not row.paused and row.archived_at is None
    return RowMessage(
        partition=row.partition,
        task=row.task,
        member=due_member(row),
        was="" if was is None else row_beginning(was),
        record=row_record(row),
        runs=[*map(_run_record, change.runs)],
        due=row.due_at if in_use else None,
        archived=row.archived_at,
        returned=change.returned,
        paused=row.paused if change.follows_pause else None,
    )


def _run_record(insert: RunInsert) -> RunRecord:
    run = insert.run
    return RunRecord(
        id=run.id,
        record=run_record(run),
        state=_state_of(run),
        at=run.retry_at,
        folds=insert.folds,
    )


def _run_message(change: RunChange) -> RunMessage:
    was, run = change.was, change.run or change.was
    return RunMessage(
        id=run.id,
        partition=run.partition,
        task=run.task,
        was=unfinished_beginning(was),
        record=None if change.run is None else run_record(run),
        old=_state_of(was),
        new=_state_of(run),
        at=run.retry_at,
        max_claimed=change.max_claimed,
        lease=change.mark,
        row=row_beginning(change.row) if change.guarded and change.row is not None else None,
    )


def _state_of(run: Run) -> str:
    """Return the state of a run in the words of `apply.lua`."""
    if run.outcome is not None:
        return "finished"
    return "claimed" if run.holder else "pending"
