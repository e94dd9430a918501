"""Reads unfinished runs on Redis: pending ones, posted ones, and those of lost processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.core.run import QUEUE_HOLDER
from pulse.store.redis.codec import count_of, pending_run
from pulse.store.shared.backend import Orphans
from pulse.store.shared.rows import task_key

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from pulse.core.run import Run
    from pulse.store.redis.client import RedisClient


class RedisUnfinished:
    """The part of a session that reads unfinished runs."""

    __slots__ = ()

    _server: RedisClient

    def read_runs(self, ids: Sequence[str | bytes]) -> dict[str, Run]:
        """Return the runs of these ids that exist, by id."""
        raise NotImplementedError

    def read_pending(self, tasks: Mapping[str, Sequence[str]]) -> Sequence[Run]:
        """Return the pending runs of some tasks, which are given by partition."""
        found: list[Run] = []
        for partition, names in tasks.items():
            row_keys = [task_key(name, partition) for name in names]
            counts = self._server.command("HMGET", self._server.key("unheld"), *row_keys)
            # Most tasks have no pending run; the counters avoid reading the index for them.
            found_counts = zip(names, map(count_of, counts), strict=True)
            if wanted := {name.encode() for name, number in found_counts if number}:
                found += self._pending_in(partition, wanted)
        return found

    def _pending_in(self, partition: str, tasks: Container[bytes] | None = None) -> list[Run]:
        """Return the pending runs of a partition, of all tasks or of some."""
        members = self._server.command("ZRANGE", self._server.key(f"unheld:{partition}"), 0, -1)
        found = map(pending_run, members)
        runs = self.read_runs([run for run, task in found if tasks is None or task in tasks])
        return [run for run in runs.values() if run.outcome is None and not run.holder]

    def read_posted(self, tasks: Mapping[str, Sequence[str]]) -> Sequence[Run]:
        """Return the posted runs of some tasks, which are given by partition."""
        runs = self.read_runs(self._server.command("HKEYS", self._server.key("waits")))
        return [
            run
            for run in runs.values()
            if run.holder == QUEUE_HOLDER and run.task in tasks.get(run.partition, ())
        ]

    def read_orphans(self, holders: Sequence[str]) -> Orphans:
        """Return the runs that *holders* have claimed, and those pending in their partitions."""
        if not holders:
            return Orphans((), ())
        leases = self._server.command("ZRANGE", self._server.key("leases"), 0, -1)
        claimed = [
            run
            for run in self.read_runs(leases).values()
            if run.outcome is None and run.holder in holders
        ]
        return Orphans(claimed, [run for holder in holders for run in self._pending_in(holder)])
