"""Removes processes that are gone, and abandons the runs that they left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.core.policies import Scope
from pulse.core.run_transitions import abandon_run, requeue_run
from pulse.store.shared.changes import ChangeSet, RunChange
from pulse.store.shared.manifests import ActiveDefinitions, active_definitions
from pulse.store.shared.orphans import end_pending
from pulse.store.shared.rows import task_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.store.shared.backend import LostRun, MemberRow, Session
    from pulse.store.shared.rows import TaskRow

SILENT_LEASES = 3
"""A process that has not been seen for so many of its leases counts as gone."""


def read_active_definitions(session: Session, live: Iterable[MemberRow]) -> ActiveDefinitions:
    """Return the definitions that are active while the processes *live* are alive."""
    hosts_of: dict[str, set[str]] = {}
    for one in live:
        hosts_of.setdefault(one.manifest, set()).add(one.member.host)
    manifests = session.read_manifests(hosts_of)
    return active_definitions(
        (*manifests[key], hosts) for key, hosts in hosts_of.items() if key in manifests
    )


def drop_members(session: Session, holders: Sequence[str]) -> list[Run]:
    """Remove processes, and the rows of their partitions; return the pending runs that end.

    A process that still has claimed runs stays listed, so that its end is found with its runs.
    """
    orphans = session.read_orphans(holders)
    ended = end_pending(session, orphans.pending)
    session.remove_members(holders, keep=frozenset(run.holder for run in orphans.claimed))
    return ended


def abandon_runs(session: Session, lost: Sequence[LostRun], now: Instant) -> list[Run]:
    """Abandon runs, unless they were renewed or recorded since; return them as they then are."""
    if not lost:
        return []
    keys = sorted({task_key(one.run.task, one.run.partition) for one in lost})
    rows = session.read_tasks(keys).rows
    runs = [_abandoned(one, rows, now) for one in lost]
    changes = [_change_of(one, run, rows) for one, run in zip(lost, runs, strict=True)]
    applied = session.apply(ChangeSet(runs=changes, skip_locked=True)).runs
    return [run for run, done in zip(runs, applied, strict=True) if done]


def _abandoned(lost: LostRun, rows: Mapping[str, TaskRow], now: Instant) -> Run:
    row = rows.get(task_key(lost.run.task, lost.run.partition))
    active = row is not None and row.archived_at is None
    if row is not None and active and row.rerun and row.scope != Scope.PROCESS.value:
        return requeue_run(lost.run, lost.reason, now)
    return abandon_run(lost.run, lost.reason)


def _change_of(lost: LostRun, run: Run, rows: Mapping[str, TaskRow]) -> RunChange:
    """Return the change; a run is requeued only while its row is as it was read."""
    row = rows.get(task_key(run.task, run.partition)) if run.outcome is None else None
    return RunChange(lost.run, run, row, guarded=row is not None, mark=lost.mark)
