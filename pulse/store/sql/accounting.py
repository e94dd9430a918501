"""What sessions in SQL read and write so that each fire time can be accounted for."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from pulse.core.records import RefusedResult, ScheduleVersion, ServedInterval, Tally
from pulse.core.run import Outcome
from pulse.store.shared.records import BATCH
from pulse.store.shared.rows import task_key
from pulse.store.sql.database import Insert
from pulse.store.sql.retention import FINISHED, prune

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pulse.clock import Instant, Span
    from pulse.store.shared.records import Limits, PruneTurn
    from pulse.store.sql.database import Connection

_VERSION_FIELDS = (
    "task", "partition", "at", "schedule", "anchor", "first", "decided", "is_exact",
)  # fmt: skip
_VERSION_COLUMNS = "task, place, at, schedule, anchor, first, decided, is_exact"
_ADD_VERSIONS = Insert("@versions", tuple(_VERSION_COLUMNS.split(", ")))
_VERSIONS = f"SELECT {_VERSION_COLUMNS} FROM @versions v"  # noqa: S608 - constants alone
_OF_TASK = f"{_VERSIONS} WHERE task = ? ORDER BY at, seq"
_LAST = (
    f"{_VERSIONS} WHERE task IN (?*) AND seq = (SELECT max(seq) FROM @versions n"  # noqa: S608 - constants alone
    " WHERE n.task = v.task AND n.place = v.place)"
)
_SERVED = (
    "INSERT INTO @served AS s (place, since, until) VALUES (?, coalesce((SELECT since FROM @served"
    " WHERE place = ? AND since <= ? AND until >= ? ORDER BY since DESC LIMIT 1), ?), ?)"
    " ON CONFLICT (place, since) DO UPDATE SET until ="
    " CASE WHEN excluded.until > s.until THEN excluded.until ELSE s.until END"
)
_ALL_SERVED = "SELECT place, since, until FROM @served ORDER BY since"
_TALLIES = (
    "SELECT hour, is_planned, kind, number, newest FROM @tallies WHERE task = ? ORDER BY hour, kind"
)
_REFUSED_FIELDS = (
    "run", "task", "partition", "fire_time", "attempt", "holder", "started_at", "outcome", "at",
)  # fmt: skip
_REFUSED_COLUMNS = "run, task, place, fire_time, attempt, holder, started_at, outcome, at"
_REFUSE = Insert(
    "@refused", ("ident", *_REFUSED_COLUMNS.split(", ")), also="ON CONFLICT (ident) DO NOTHING"
)
_REFUSED = f"SELECT {_REFUSED_COLUMNS} FROM @refused WHERE task = ? ORDER BY at, ident"  # noqa: S608 - constants alone
_version_cells = attrgetter(*_VERSION_FIELDS)
_refused_cells = attrgetter(*_REFUSED_FIELDS)


class SqlAccounting:
    """The part of a session that is about records beside rows and runs."""

    __slots__ = ()

    connection: Connection

    def read_last_versions(self, names: Collection[str]) -> dict[str, ScheduleVersion]:
        """Return the newest version of some tasks, by the key of the row."""
        found = map(_version_of, self.connection.select_in(_LAST, names))
        return {task_key(one.task, one.partition): one for one in found}

    def add_versions(self, versions: Sequence[ScheduleVersion]) -> None:
        """Append versions."""
        cells = [
            (*_version_cells(one)[:-1], int(one.is_exact))  # the last field
            for one in versions
        ]
        self.connection.insert_many(_ADD_VERSIONS, cells)

    def read_versions(self, task: str) -> list[ScheduleVersion]:
        """Return the versions of a task in all partitions, oldest first."""
        return [*map(_version_of, self.connection.execute(_OF_TASK, (task,)))]

    def record_served(self, partitions: Collection[str], *, now: Instant, gap: Span) -> None:
        """Record that partitions are served at *now*, and were since a record up to *gap* ago."""
        for place in sorted(partitions):
            self.connection.execute(_SERVED, (place, place, now, now - gap, now, now))

    def read_served(self) -> list[ServedInterval]:
        """Return when partitions were served, oldest first."""
        return [ServedInterval(*cells) for cells in self.connection.execute(_ALL_SERVED)]

    def read_tallies(self, task: str) -> list[Tally]:
        """Return the tallies of the runs of a task that were deleted."""
        found = self.connection.execute(_TALLIES, (task,))
        return [
            Tally(hour, bool(planned), kind, number, newest)
            for hour, planned, kind, number, newest in found
        ]

    def add_refused(self, results: Sequence[RefusedResult]) -> None:
        """Keep results that were refused; one that is kept already stays as it is."""
        self.connection.insert_many(_REFUSE, [_cells_of(one) for one in results])

    def read_refused(self, task: str) -> list[RefusedResult]:
        """Return the results of a task that were refused."""
        found: list[RefusedResult] = []
        for cells in self.connection.execute(_REFUSED, (task,)):
            fields = dict(zip(_REFUSED_FIELDS, cells, strict=True))
            found.append(RefusedResult(**fields | {"outcome": Outcome(fields["outcome"])}))
        return found

    def delete_runs(self, ids: Sequence[str]) -> None:
        """Delete those of some runs that have ended, and add them to the tallies."""
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            self.connection.delete_tallied(FINISHED.format(", ".join("?" * len(some))), some)

    def prune(self, turn: PruneTurn, limits: Limits) -> PruneTurn | None:
        """Delete what is older than the limits; return what is to be pruned next."""
        return prune(self.connection, turn, limits)


def _version_of(cells: Sequence[object]) -> ScheduleVersion:
    fields = dict(zip(_VERSION_FIELDS, cells, strict=True))
    fields["is_exact"] = bool(fields["is_exact"])
    return ScheduleVersion(**fields)  # type: ignore[arg-type] # as the columns are declared


def _cells_of(result: RefusedResult) -> tuple[str | int | None, ...]:
    key = f"{result.run} {result.attempt} {result.holder} {result.started_at}"
    *cells, outcome, at = _refused_cells(result)
    return (key, *cells, str(outcome.value), at)
