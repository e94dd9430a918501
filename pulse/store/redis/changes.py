"""What a write asks of the server: changes of rows and of runs, each with what it rests upon."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.store.redis.client import ServerCall
from pulse.store.redis.codec import RedisTaskRow, open_beginning, row_record, run_record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.run import Run
    from pulse.store.redis.client import RedisClient

CHUNK = 500
"""How many changes one script makes at most: it keeps all others waiting."""


class NewRunChange(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A run to open with the change of its row.

    Attributes:
        state: held, unheld or ended.
        at: when an unheld one may be taken.
        folds: whether it may be there already, and is written anew.

    """

    id: str
    record: str
    state: str
    at: Instant | None = None
    folds: bool = False


class RowChange(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A row to add or to change, and the runs that are opened with it.

    Attributes:
        was: what its record begins with; empty where there is to be none.
        due: when it is work; None while it is none.
        archived: when it is put away.
        returned: whether it comes back from there.

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
    """An open run to change, from one state to another.

    Attributes:
        was: what its record begins with.
        record: what it becomes; None where only its lease is renewed.
        old: held or unheld.
        new: held, unheld or ended.
        at: when an unheld one may be taken.
        max_unfinished: how many of its task may be held beside it.
        lease: when its lease ends, where it is not to have been renewed.
        row: what the record of its task's row begins with.

    """

    id: str
    partition: str
    task: str
    was: str
    old: str
    new: str
    record: str | None = None
    at: Instant | None = None
    max_unfinished: int | None = None
    lease: Instant | None = None
    row: str | None = None


class ChangeSet(ServerCall, kw_only=True):
    """What `apply.lua` is asked to do."""

    lease: Span
    keep: int = 0
    closed: Sequence[RunChange] = ()
    rows: Sequence[RowChange] = ()
    runs: Sequence[RunChange] = ()
    released: Sequence[str] = ()
    trimmed: Sequence[str] = ()


class Applied(msgspec.Struct, frozen=True):
    """What of it was done.

    Attributes:
        due: of the rows that were not as expected, when they are due; False for never.
        existing: ids of runs that were there already.

    """

    now: Instant
    closed: Sequence[bool]
    rows: Sequence[bool]
    due: Sequence[Instant | bool]
    runs: Sequence[bool]
    existing: Sequence[str]


_WRITTEN = msgspec.msgpack.Decoder(Applied)


def apply(server: RedisClient, writing: ChangeSet) -> Applied:
    """Write, and return what was done."""
    return server.run("apply", writing, _WRITTEN)


def apply_rows(
    server: RedisClient, changes: Sequence[RowChange], following: Iterable[RunChange] = ()
) -> list[bool]:
    """Change rows, in bounded steps; return which were as expected.

    What is *following* is done in the step of its row.
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
    """Change runs, in bounded steps; return which were as expected."""
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
    """Return what makes *was*, or nothing, into *row*."""
    stands = not row.paused and row.archived_at is None
    return RowChange(
        partition=row.partition,
        task=row.task,
        member=row.member,
        was="" if was is None else was.beginning,
        record=row_record(row),
        runs=list(runs),
        due=row.due_at if stands else None,
        archived=row.archived_at,
        returned=returned,
    )


def opened(run: Run, *, folds: bool = False) -> NewRunChange:
    """Return what opens *run*, or records it."""
    return NewRunChange(
        id=run.id, record=run_record(run), state=state_of(run), at=run.retry_at, folds=folds
    )


def run_change(
    was: Run,
    run: Run,
    *,
    room: int | None = None,
    lease: Instant | None = None,
    row: str | None = None,
) -> RunChange:
    """Return what makes *was* into *run*, while it is open and nobody else has changed it."""
    return RunChange(
        id=run.id,
        partition=run.partition,
        task=run.task,
        was=open_beginning(was),
        record=run_record(run),
        old=state_of(was),
        new=state_of(run),
        at=run.retry_at,
        max_unfinished=room,
        lease=lease,
        row=row,
    )


def renewal(run: Run) -> RunChange:
    """Return what renews the lease of a run in progress."""
    return RunChange(
        id=run.id,
        partition=run.partition,
        task=run.task,
        was=open_beginning(run),
        old="held",
        new="held",
    )


def state_of(run: Run) -> str:
    """Return the word for the state of a run."""
    if run.outcome is not None:
        return "ended"
    return "held" if run.holder else "unheld"
