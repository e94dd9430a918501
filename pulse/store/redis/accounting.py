"""What sessions on Redis read and write so that each fire time can be accounted for."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import DAY, Instant
from pulse.core.records import (
    HOUR,
    KEEP_RECORDS,
    PAUSED_REASON,
    RefusedResult,
    ScheduleVersion,
    ServedInterval,
    Tally,
)
from pulse.store.shared.records import BATCH, PruneTurn
from pulse.store.shared.rows import task_key

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pulse.clock import Span
    from pulse.store.redis.client import RedisClient
    from pulse.store.shared.records import Limits

MAX_UNUSED_MANIFESTS = 32
"""How many of the newest manifests are kept although no process declares them any more."""

_VERSION = (
    "task", "partition", "at", "schedule", "anchor", "first", "decided", "is_exact",
)  # fmt: skip
_REFUSED = (
    "run", "task", "partition", "fire_time", "attempt", "holder", "started_at", "outcome", "at",
)  # fmt: skip
_version_values, _refused_values = attrgetter(*_VERSION), attrgetter(*_REFUSED)
_array = msgspec.json.Decoder(list[object])
_cells = msgspec.json.Decoder(tuple[dict[str, tuple[int, str]]])
_DONE = msgspec.msgpack.Decoder(bool)
_TURN = msgspec.msgpack.Decoder(tuple[int, int, bool] | bool)
_PRUNED = msgspec.msgpack.Decoder(tuple[str, bool])


class RedisAccounting:
    """The part of a session that is about records beside rows and runs."""

    __slots__ = ()

    _server: RedisClient

    def read_last_versions(self, names: Collection[str]) -> dict[str, ScheduleVersion]:
        """Return the newest version of some tasks, by the key of the row."""
        _, (records,) = self._server.batch(("HVALS", "last_versions"))
        found = map(_version_of, records)
        return {task_key(one.task, one.partition): one for one in found if one.task in names}

    def add_versions(self, versions: Sequence[ScheduleVersion]) -> None:
        """Append versions."""
        for start in range(0, len(versions), BATCH):
            commands: list[tuple[str, ...]] = []
            for one in versions[start : start + BATCH]:
                record = msgspec.json.encode(_version_values(one)).decode()
                commands.append(("RPUSH", f"versions:{one.task}", record))
                key = task_key(one.task, one.partition)
                commands.append(("HSET", "last_versions", key, record))
            self._server.batch(*commands)

    def read_versions(self, task: str) -> list[ScheduleVersion]:
        """Return the versions of a task in all partitions, oldest first."""
        _, (records,) = self._server.batch(("LRANGE", f"versions:{task}", 0, -1))
        return sorted(map(_version_of, records or ()), key=lambda one: one.at)

    def record_served(self, partitions: Collection[str], *, now: Instant, gap: Span) -> None:
        """Record that partitions are served at *now*, and were since a record up to *gap* ago."""
        if partitions:
            self._server.run("served", _DONE, partitions=sorted(partitions), at=now, gap=gap)

    def read_served(self) -> list[ServedInterval]:
        """Return when partitions were served, oldest first."""
        _, (found,) = self._server.batch(("ZRANGE", "served", 0, -1, "WITHSCORES"))
        pairs = zip((found or ())[::2], (found or ())[1::2], strict=True)
        return sorted(
            (
                ServedInterval(member[17:], int(member[:16]), round(float(end)))
                for member, end in pairs
            ),
            key=lambda one: one.since,
        )

    def read_tallies(self, task: str) -> list[Tally]:
        """Return the tallies of the runs of a task that were deleted."""
        today = self._server.now() // DAY
        days = range(today - KEEP_RECORDS // DAY - 1, today + 2)
        _, records = self._server.batch(*(("HGET", f"tallies:{day}", task) for day in days))
        found: list[Tally] = []
        for record in filter(None, records):
            for cell, (number, newest) in _cells.decode(record)[0].items():
                hour, planned, kind = cell.split(" ", 2)
                found.append(Tally(int(hour), planned == "1", kind, number, int(newest)))
        return sorted(found)

    def add_refused(self, results: Sequence[RefusedResult]) -> None:
        """Keep results that were refused; one that is kept already stays as it is."""
        self._server.batch(
            *(
                (
                    "HSETNX",
                    "refused",
                    f"{one.run} {one.attempt} {one.holder} {one.started_at}",
                    msgspec.json.encode(_refused_values(one)).decode(),
                )
                for one in results
            )
        )

    def read_refused(self, task: str) -> list[RefusedResult]:
        """Return the results of a task that were refused."""
        _, (records,) = self._server.batch(("HVALS", "refused"))
        found = [
            msgspec.convert(dict(zip(_REFUSED, _array.decode(record), strict=True)), RefusedResult)
            for record in records or ()
        ]
        mine = [one for one in found if one.task == task]
        return sorted(mine, key=attrgetter("at", "run", "attempt"))

    def delete_runs(self, ids: Sequence[str]) -> None:
        """Delete those of some runs that have ended, and add them to the tallies."""
        for start in range(0, len(ids), BATCH):
            some = [*ids[start : start + BATCH]]
            self._server.run("delete_runs", _DONE, ids=some, paused=PAUSED_REASON)

    def begin_prune(self, *, every: Span) -> PruneTurn | None:
        """Return what this process prunes now; None if one has lately."""
        found = self._server.run("begin_prune", _TURN, every=every, day=DAY, hour=HOUR)
        return None if isinstance(found, bool) else PruneTurn(*found)

    def prune(self, turn: PruneTurn, limits: Limits) -> PruneTurn | None:
        """Delete what is older than the limits; return what is to be pruned next."""
        passed, has_more = self._server.run(
            "prune",
            _PRUNED,
            before=limits.runs,
            failures_before=limits.failures,
            records_before=limits.records,
            position=str(turn.position),
            batch=BATCH,
            records=turn.with_records,
            keep_manifests=MAX_UNUSED_MANIFESTS,
            paused=PAUSED_REASON,
        )
        return PruneTurn(turn.now, int(passed)) if has_more else None


def _version_of(record: str | bytes) -> ScheduleVersion:
    return msgspec.convert(dict(zip(_VERSION, _array.decode(record), strict=True)), ScheduleVersion)
