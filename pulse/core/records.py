"""What is recorded about a task beside its runs, so that each fire time can be accounted for."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import NamedTuple

import msgspec

from pulse.clock import DAY, SECOND, Instant, Span
from pulse.core.run import Outcome  # noqa: TC001 - msgspec reads the hints of its structs

HOUR: Span = 3_600 * SECOND

KEEP_RECORDS: Span = 90 * DAY
"""How long the records of this module are kept."""

PAUSED_REASON = "passed while the task was paused"
"""The recorded reason of fire times that were due during a pause."""

PAUSED_KIND = "paused"
"""The kind of a tally of fire times that were missed during a pause."""


class ScheduleVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule of a task, from an instant until that of the next version.

    Attributes:
        task: the name of the task.
        partition: the part of the fleet.
        at: from when it is valid, on the store's clock.
        schedule: the stored text of the schedule; empty from when the task is not in use.
        anchor: the instant from which intervals are counted.
        first: the first fire time that this version has to decide; None for none.
        decided: the newest fire time that was decided before.
        is_exact: whether *at* is the instant of the change; else another release has made it at an
            unknown instant before.

    """

    task: str
    partition: str = ""
    at: Instant
    schedule: str
    anchor: Instant
    first: Instant | None
    decided: Instant
    is_exact: bool = True


class ServedInterval(NamedTuple):
    """A span in which processes served a partition, without a gap of more than a lease."""

    partition: str
    since: Instant
    until: Instant


class Tally(NamedTuple):
    """How many fire times of a task and an hour are on record in runs that were deleted.

    Attributes:
        hour: the beginning of the hour in which the fire times are.
        is_planned: whether they are fire times of the schedule; else manual and start-up runs.
        kind: an outcome, or `PAUSED_KIND`.
        number: how many they are.
        newest: the newest of them.

    """

    hour: Instant
    is_planned: bool
    kind: str
    number: int
    newest: Instant


class RefusedResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an attempt that was dispatched and that the store refused.

    Attributes:
        run: the id of the run.
        task: the name of the task.
        partition: the part of the fleet.
        fire_time: the fire time of a planned run; None for others.
        attempt: the number of the attempt.
        holder: the process that made it.
        started_at: when it began.
        outcome: how it ended.
        at: when the store refused it.

    """

    run: str
    task: str
    partition: str
    fire_time: Instant | None
    attempt: int
    holder: str
    started_at: Instant
    outcome: Outcome
    at: Instant


class PausedInterval(NamedTuple):
    """A pause of a task, or of all tasks.

    Attributes:
        since: when it began; None if that is not on record.
        until: when it ended; None for a pause that lasts.
        by: who asked for it.
        note: why.
        every: whether all tasks were paused.

    """

    since: Instant | None
    until: Instant | None
    by: str = ""
    note: str = ""
    every: bool = False

    def covers(self, instant: Instant) -> bool:
        """Return whether an instant is in the pause."""
        begun = self.since is None or self.since <= instant
        return begun and (self.until is None or instant <= self.until)


class TaskPosition(NamedTuple):
    """Where a task is in its schedule, in one partition."""

    partition: str
    next_fire: Instant | None
    last_decided: Instant


class TaskRecords(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is recorded about one task beside its runs.

    Attributes:
        now: the store's clock.
        lease_us: the longest time without a heartbeat that is no gap in *served*.
        positions: the rows of the task, also where it is not in use any more.
        versions: its schedules, oldest first.
        served: when its partitions were served, oldest first.
        pauses: when it was paused, oldest first.
        tallies: what was deleted.
        refused: the results that the store refused.

    """

    now: Instant
    lease_us: Span
    positions: Sequence[TaskPosition] = ()
    versions: Sequence[ScheduleVersion] = ()
    served: Sequence[ServedInterval] = ()
    pauses: Sequence[PausedInterval] = ()
    tallies: Sequence[Tally] = ()
    refused: Sequence[RefusedResult] = ()
