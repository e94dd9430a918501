"""Change sets: changes of rows and runs, each with the precondition under which it is written."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.store.redis.client import ScriptRequest
from pulse.store.redis.codec import RedisTaskRow, row_record, run_record, unfinished_beginning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.run import Run
    from pulse.store.redis.client import RedisClient

CHUNK = 500
"""How many changes one script call makes at most, since all other clients wait meanwhile."""


class NewRunChange(msgspec.Struct, kw_only=True, omit_defaults=True):
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


class RowChange(msgspec.Struct, kw_only=True, omit_defaults=True):
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

    """

    partition: str
    task: str
    member: str
    was: str
    record: str
    runs: Sequence[NewRunChange]
    due: Instant | None = None
    archived: Instant | None = None
    returned: bool = False


class RunChange(msgspec.Struct, kw_only=True, omit_defaults=True):
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


class ChangeSet(ScriptRequest, kw_only=True):
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
    closed: Sequence[RunChange] = ()
    rows: Sequence[RowChange] = ()
    runs: Sequence[RunChange] = ()
    released: Sequence[str] = ()
    trimmed: Sequence[str] = ()


class Applied(msgspec.Struct, frozen=True):
    """The reply of `apply.lua`: for each change whether it was made.

    Attributes:
        now: the server's clock.
        closed: whether each run of `ChangeSet.closed` was changed.
        rows: whether each row was changed.
        due: for each refused row, when it is due; False for never.
        runs: whether each run of `ChangeSet.runs` was changed.
        existing: ids of runs that were not created because they existed.

    """

    now: Instant
    closed: Sequence[bool]
    rows: Sequence[bool]
    due: Sequence[Instant | bool]
    runs: Sequence[bool]
    existing: Sequence[str]


_APPLIED = msgspec.msgpack.Decoder(Applied)


def apply(server: RedisClient, changes: ChangeSet) -> Applied:
    """Write a change set in one step; return which changes were made."""
    return server.run("apply", changes, _APPLIED)


def apply_rows(
    server: RedisClient, changes: Sequence[RowChange], following: Iterable[RunChange] = ()
) -> list[bool]:
    """Change rows, in bounded steps; return for each whether it was changed.

    Each run change of *following* is made in the same step as the change of its row.
    """
    runs: dict[tuple[str, str], list[RunChange]] = {}
    for run in following:
        runs.setdefault((run.partition, run.task), []).append(run)
    done: list[bool] = []
    for start in range(0, len(changes), CHUNK):
        rows = changes[start : start + CHUNK]
        with_them = [run for row in rows for run in runs.get((row.partition, row.task), ())]
        done += apply(server, ChangeSet(lease=0, rows=rows, runs=with_them)).rows
    return done


def apply_runs(
    server: RedisClient, changes: Sequence[RunChange], *, lease_us: Span = 0
) -> list[bool]:
    """Change runs, in bounded steps; return for each whether it was changed."""
    done: list[bool] = []
    for start in range(0, len(changes), CHUNK):
        part = ChangeSet(lease=lease_us, runs=changes[start : start + CHUNK])
        done += apply(server, part).runs
    return done


def row_change(
    row: RedisTaskRow,
    *,
    was: RedisTaskRow | None,
    runs: Iterable[NewRunChange] = (),
    returned: bool = False,
) -> RowChange:
    """Return the change of *was* into *row*; None for *was* adds the row."""
    in_use = not row.paused and row.archived_at is None
    return RowChange(
        partition=row.partition,
        task=row.task,
        member=row.member,
        was="" if was is None else was.beginning,
        record=row_record(row),
        runs=list(runs),
        due=row.due_at if in_use else None,
        archived=row.archived_at,
        returned=returned,
    )


def create_run(run: Run, *, folds: bool = False) -> NewRunChange:
    """Return the change that creates *run*."""
    return NewRunChange(
        id=run.id, record=run_record(run), state=state_of(run), at=run.retry_at, folds=folds
    )


def run_change(
    was: Run,
    run: Run,
    *,
    max_claimed: int | None = None,
    lease: Instant | None = None,
    row: str | None = None,
) -> RunChange:
    """Return the change of *was* into *run*, while *was* is unchanged and unfinished."""
    return RunChange(
        id=run.id,
        partition=run.partition,
        task=run.task,
        was=unfinished_beginning(was),
        record=run_record(run),
        old=state_of(was),
        new=state_of(run),
        at=run.retry_at,
        max_claimed=max_claimed,
        lease=lease,
        row=row,
    )


def renewal(run: Run) -> RunChange:
    """Return the renewal of the lease of a claimed run."""
    return RunChange(
        id=run.id,
        partition=run.partition,
        task=run.task,
        was=unfinished_beginning(run),
        old="claimed",
        new="claimed",
    )


def state_of(run: Run) -> str:
    """Return the state of a run in the words of `apply.lua`."""
    if run.outcome is not None:
        return "finished"
    return "claimed" if run.holder else "pending"
