"""Runs without an owner: those of removed members, and pending runs of archived tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.run_transitions import abandon_run, advance_retry
from pulse.store.redis.changes import apply_rows, apply_runs, run_change
from pulse.store.redis.client import ScriptRequest
from pulse.store.redis.codec import row_of, run_of, task_key
from pulse.store.rules import NOT_DECLARED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.run import Run
    from pulse.store.redis.changes import RowChange, RunChange
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.codec import RedisTaskRow


class _OrphansRequest(ScriptRequest, kw_only=True):
    holders: Sequence[str] = ()
    partitions: Sequence[str] = ()
    tasks: Mapping[str, Sequence[str]] = {}


class _OrphansReply(msgspec.Struct, frozen=True):
    now: Instant
    claimed: Sequence[tuple[str, Instant]]
    pending: Sequence[str]


_ORPHANS_REPLY = msgspec.msgpack.Decoder(_OrphansReply)


class Orphans(NamedTuple):
    """Records of claimed runs, each with the end of its lease, and pending runs."""

    claimed: Sequence[tuple[str, Instant]]
    pending: Sequence[Run]


def read_orphans(
    server: RedisClient, *, holders: Iterable[str], partitions: Iterable[str]
) -> Orphans:
    """Return the claimed runs of *holders*, and the pending runs of *partitions*."""
    return _read(server, _OrphansRequest(holders=sorted(holders), partitions=sorted(partitions)))


def _read(server: RedisClient, request: _OrphansRequest) -> Orphans:
    reply = server.run("read_orphans", request, _ORPHANS_REPLY)
    return Orphans(reply.claimed, [*map(run_of, reply.pending)])


def end_runs(server: RedisClient, runs: Iterable[Run], reason: str = NOT_DECLARED) -> None:
    """Abandon pending runs that no process will claim."""
    apply_runs(server, [run_change(run, abandon_run(run, reason)) for run in runs])


def change_with_pending(
    server: RedisClient, changes: Sequence[RowChange], reason: str = NOT_DECLARED
) -> list[bool]:
    """Change rows and their pending runs in one step; return for each row whether it was changed.

    The pending runs of an archived row end, for *reason*. Retries of another row are moved forward
    to the next fire time, which may be earlier now.
    """
    rows = [row_of(change.record) for change in changes]
    done = apply_rows(server, changes, _following(server, rows, reason))
    # A run may have become pending between the read and the write; runs that become pending later
    # see the changed rows.
    changed = [row for row, was_done in zip(rows, done, strict=True) if was_done]
    apply_runs(server, _following(server, changed, reason))
    return done


def _following(server: RedisClient, rows: Sequence[RedisTaskRow], reason: str) -> list[RunChange]:
    by_key = {row.task_key: row for row in rows}
    pairs = [(run, by_key[task_key(run.task, run.partition)]) for run in _pending(server, rows)]
    changed = [(run, _followed(run, row, reason), row) for run, row in pairs]
    return [run_change(was, run, row=row.beginning) for was, run, row in changed if run is not was]


def _followed(run: Run, row: RedisTaskRow, reason: str) -> Run:
    if row.archived_at is not None:
        return abandon_run(run, reason)
    return run if row.next_fire is None else advance_retry(run, row.next_fire)


def _pending(server: RedisClient, rows: Iterable[RedisTaskRow]) -> Sequence[Run]:
    tasks: dict[str, list[str]] = {}
    for row in rows:
        tasks.setdefault(row.partition, []).append(row.task)
    return _read(server, _OrphansRequest(tasks=tasks)).pending if tasks else ()
