"""What is left behind: by processes that are gone, and by tasks that are put away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.run_transitions import abandon_run, advance_retry
from pulse.store.redis.changes import apply_rows, apply_runs, run_change
from pulse.store.redis.client import ServerCall
from pulse.store.redis.codec import row_of, run_of, task_key
from pulse.store.rules import NOT_DECLARED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.run import Run
    from pulse.store.redis.changes import RowChange, RunChange
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.codec import RedisTaskRow


class _OrphansRequest(ServerCall, kw_only=True):
    holders: Sequence[str] = ()
    partitions: Sequence[str] = ()
    tasks: Mapping[str, Sequence[str]] = {}


class _OrphansReply(msgspec.Struct, frozen=True):
    now: Instant
    claimed: Sequence[tuple[str, Instant]]
    pending: Sequence[str]


_LEFT = msgspec.msgpack.Decoder(_OrphansReply)


class Orphans(NamedTuple):
    """Records of held runs, each with the end of its lease, and unheld runs."""

    claimed: Sequence[tuple[str, Instant]]
    pending: Sequence[Run]


def read_orphans(
    server: RedisClient, *, holders: Iterable[str], partitions: Iterable[str]
) -> Orphans:
    """Return the runs that *holders* hold, and the unheld runs of *places*."""
    return _ask(server, _OrphansRequest(holders=sorted(holders), partitions=sorted(partitions)))


def _ask(server: RedisClient, leaving: _OrphansRequest) -> Orphans:
    answer = server.run("read_orphans", leaving, _LEFT)
    return Orphans(answer.claimed, [*map(run_of, answer.pending)])


def end_runs(server: RedisClient, runs: Iterable[Run], reason: str = NOT_DECLARED) -> None:
    """End runs that nobody will take."""
    apply_runs(server, [run_change(run, abandon_run(run, reason)) for run in runs])


def change_with_waiting(
    server: RedisClient, changes: Sequence[RowChange], reason: str = NOT_DECLARED
) -> list[bool]:
    """Change rows, and in the same step the runs of theirs that wait; return which rows stood.

    With a row that is put away they end, for *reason*. Of another one no retry waits beyond the
    next tick, which may have come nearer.
    """
    rows = [row_of(change.record) for change in changes]
    stood = apply_rows(server, changes, _following(server, rows, reason))
    # A run that began to wait meanwhile; whatever begins to later sees the rows as they are.
    changed = [row for row, as_expected in zip(rows, stood, strict=True) if as_expected]
    apply_runs(server, _following(server, changed, reason))
    return stood


def _following(server: RedisClient, rows: Sequence[RedisTaskRow], reason: str) -> list[RunChange]:
    by_spot = {row.task_key: row for row in rows}
    pairs = [(run, by_spot[task_key(run.task, run.partition)]) for run in _pending(server, rows)]
    became = [(run, _followed(run, row, reason), row) for run, row in pairs]
    return [run_change(was, run, row=row.beginning) for was, run, row in became if run is not was]


def _followed(run: Run, row: RedisTaskRow, reason: str) -> Run:
    if row.archived_at is not None:
        return abandon_run(run, reason)
    return run if row.next_fire is None else advance_retry(run, row.next_fire)


def _pending(server: RedisClient, rows: Iterable[RedisTaskRow]) -> Sequence[Run]:
    tasks: dict[str, list[str]] = {}
    for row in rows:
        tasks.setdefault(row.partition, []).append(row.task)
    return _ask(server, _OrphansRequest(tasks=tasks)).pending if tasks else ()
