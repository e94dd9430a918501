"""Records beside rows and runs: schedule versions, served spans, tallies, and what is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from pulse.core.policies import Scope
from pulse.core.records import RefusedResult, ScheduleVersion

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.records import ServedInterval, Tally
    from pulse.store.shared.backend import Session
    from pulse.store.shared.rows import TaskRow

BATCH = 500
"""How many runs one call of `prune` examines at most."""


class Limits(NamedTuple):
    """What `prune` deletes.

    Attributes:
        runs: ended runs that are older than this instant.
        failures: those that are kept longer, and are older than this one.
        records: other records that are older than this one.

    """

    runs: Instant
    failures: Instant
    records: Instant


class PruneTurn(NamedTuple):
    """What one process prunes.

    Attributes:
        now: the store's clock when it began.
        position: the number of the history up to which only runs that are kept longer are left.
        with_records: whether records that are deleted each hour are deleted now.

    """

    now: Instant
    position: int
    with_records: bool = False


class RecordsSession(Protocol):
    """The part of a session that is about these records."""

    def read_last_versions(self, names: Collection[str]) -> Mapping[str, ScheduleVersion]:
        """Return the newest version of some tasks, by the key of the row."""

    def add_versions(self, versions: Sequence[ScheduleVersion]) -> None:
        """Append versions."""

    def read_versions(self, task: str) -> list[ScheduleVersion]:
        """Return the versions of a task in all partitions, oldest first."""

    def record_served(self, partitions: Collection[str], *, now: Instant, gap: Span) -> None:
        """Record that partitions are served at *now*, and were since a record up to *gap* ago."""

    def read_served(self) -> list[ServedInterval]:
        """Return when partitions were served, oldest first."""

    def read_tallies(self, task: str) -> list[Tally]:
        """Return the tallies of the runs of a task that were deleted."""

    def add_refused(self, results: Sequence[RefusedResult]) -> None:
        """Keep results that were refused; one that is kept already stays as it is."""

    def read_refused(self, task: str) -> list[RefusedResult]:
        """Return the results of a task that were refused."""

    def delete_runs(self, ids: Sequence[str]) -> None:
        """Delete those of some runs that have ended, and add them to the tallies."""

    def begin_prune(self, *, every: Span) -> PruneTurn | None:
        """Return what this process prunes now; None if one has in the last *every*."""

    def prune(self, turn: PruneTurn, limits: Limits) -> PruneTurn | None:
        """Delete what is older than the limits, a bounded number.

        Runs are examined by a cursor, so that those that are kept longer are passed only once; each
        day the cursor begins again, for runs that had not ended when they were passed. Runs that
        are deleted are added to the tallies.

        Returns:
            What is to be pruned next, if more may be left.

        """


def record_versions(
    session: Session,
    rows: Iterable[TaskRow],
    *,
    now: Instant,
    changed: Collection[str],
) -> None:
    """Append a version for each row whose schedule, anchor or use is not that of its newest one.

    Rows of `scope = process` have none: they end with their process.

    Args:
        session: the session in which the rows were read and written.
        rows: the rows as they are.
        now: when this session has changed rows; an archived row has an instant of its own.
        changed: the keys of the rows that it has changed; another one was changed by an earlier
            release, at an unknown instant.

    """
    kept = {row.task_key: row for row in rows if row.scope != Scope.PROCESS.value}
    if not kept:
        return
    last = session.read_last_versions(sorted({row.task for row in kept.values()}))
    versions = [
        version
        for key, row in kept.items()
        if (version := _version_of(row, last.get(key), now=now, is_exact=key in changed))
    ]
    if versions:
        session.add_versions(versions)


def _version_of(
    row: TaskRow, last: ScheduleVersion | None, *, now: Instant, is_exact: bool
) -> ScheduleVersion | None:
    schedule = "" if row.archived_at is not None else row.schedule
    if last is None and not schedule:
        return None
    if (
        last is not None
        and last.schedule == schedule
        and (not schedule or last.anchor == row.anchor)
    ):
        return None
    return ScheduleVersion(
        task=row.task,
        partition=row.partition,
        at=now if row.archived_at is None else row.archived_at,
        schedule=schedule,
        anchor=row.anchor,
        first=row.next_fire,
        decided=row.last_decided,
        is_exact=is_exact or last is None,
    )
