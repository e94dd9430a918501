"""Corrects the rows as processes join and leave; `pulse.store.shared.manifests` has the rules."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pulse.store.lease_watch import ExpiryWatch
from pulse.store.redis.changes import row_change
from pulse.store.redis.codec import row_of
from pulse.store.redis.members import SILENT_LEASES, read_active_definitions
from pulse.store.redis.orphans import change_with_pending
from pulse.store.redis.sync import changed_row, hides
from pulse.store.redis.tasks import change_rows, read_all, read_keys
from pulse.store.rules import CONFIG
from pulse.store.shared.manifests import Reconciled, reconcile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.store.redis.changes import RowChange
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.codec import RedisMemberRow, RedisTaskRow
    from pulse.store.redis.due import RedisCaller

_MANIFEST = msgspec.json.Decoder(tuple[int, str])


class RedisReconciler:
    """Takes over rows for which this process's definition is active, and archives unwanted rows.

    It also archives the row of a run-time task with the name of a task that this process declares
    with another scope. Such a row can appear while the task is being declared, since rows of two
    partitions are not compared in one write.

    The rows are read only when the set of manifests of live processes has changed: between deploys
    the cost of a check does not grow with the number of tasks.
    """

    __slots__ = ("_expired", "_fleet", "_hidden", "_takeovers", "_unwanted", "_watch", "superseded")

    def __init__(self, lease_us: Span) -> None:
        self._watch: ExpiryWatch[str] = ExpiryWatch(lease_us)
        self._fleet: frozenset[tuple[str, str]] | None = None
        self._takeovers: Sequence[tuple[RedisTaskRow, TaskDefinition]] = ()
        self._unwanted: dict[str, RedisTaskRow] = {}
        self._hidden: dict[str, RedisTaskRow] = {}
        self._expired: list[RedisTaskRow] = []
        self.superseded: tuple[str, ...] = ()

    def begin(self, superseded: tuple[str, ...]) -> None:
        """Compare all rows at the next check, since this process has synced."""
        self._fleet = None
        self.superseded = superseded

    def forget(self) -> None:
        """Restart counting for how long rows have been unwanted, since a call failed."""
        self._watch.forget()

    def reconcile(
        self, server: RedisClient, caller: RedisCaller, live: Sequence[RedisMemberRow], boot: Span
    ) -> None:
        """Find the corrections to write, without writing."""
        fleet = frozenset((row.manifest, row.member.host) for row in live)
        if fleet != self._fleet:
            self._compare(server, caller, live)
            self._fleet = fleet
        span = SILENT_LEASES * caller.member.lease_us
        expired = self._watch.expired(dict.fromkeys(self._unwanted, (0, span)), boot)
        self._expired = [self._unwanted[row_key] for row_key in sorted(expired)]

    def _compare(
        self, server: RedisClient, caller: RedisCaller, live: Sequence[RedisMemberRow]
    ) -> None:
        keys = sorted({row.manifest for row in live})
        records = server.command("HMGET", server.key("configs"), *keys) if keys else []
        pairs = zip(keys, records, strict=True)
        manifests = {key: _MANIFEST.decode(record) for key, record in pairs if record is not None}
        rows = read_all(server)
        found = reconcile(
            [row for row in rows if row.source == CONFIG],
            read_active_definitions(live, manifests),
            member=caller.member,
            definitions=caller.definitions,
        )
        self._hidden = {row.task_key: row for row in rows if hides(caller, row)}
        self._unwanted = {row.task_key: row for row in found.unwanted}
        self._takeovers = found.takeovers
        self.superseded = found.superseded

    def has_work(self) -> bool:
        """Return whether `apply` has anything to write."""
        return bool(self._takeovers or self._expired or self._hidden)

    def apply(self, server: RedisClient, caller: RedisCaller) -> Reconciled:
        """Write the corrections that the last check found."""
        if not self.has_work():
            return Reconciled()
        missed = self._take_over(server, caller)
        unwanted = self._hidden | {row.task_key: row for row in self._expired}
        archived = _archive(server, unwanted) if unwanted else ()
        self._fleet = None
        return Reconciled(archived, missed)

    def _take_over(self, server: RedisClient, caller: RedisCaller) -> list[Run]:
        own = {row.task_key: definition for row, definition in self._takeovers}
        missed: dict[str, Sequence[Run]] = {}

        def change(row: RedisTaskRow, now: Instant) -> RowChange | None:
            definition = own[row.task_key]
            stale = (
                row.archived_at is not None or caller.definitions.get(row.task) is not definition
            )
            if stale or row.digest == definition.digest or row.source != CONFIG:
                return None
            changed = changed_row(row, definition, space=caller.space, now=now)
            missed[changed.change.record] = changed.missed
            return changed.change

        read = partial(read_keys, server, list(own))
        made = change_rows(server, read, change, write=change_with_pending)
        return [run for one in made for run in missed[one.record]]


def _archive(server: RedisClient, unwanted: dict[str, RedisTaskRow]) -> tuple[str, ...]:
    """Archive rows; their cursors are kept, their pending runs end."""

    def change(row: RedisTaskRow, now: Instant) -> RowChange | None:
        known = unwanted[row.task_key]
        changed = (row.digest, row.source) != (known.digest, known.source)
        if changed or row.archived_at is not None:
            return None
        return row_change(row.changed(archived_at=now), was=row)

    read = partial(read_keys, server, list(unwanted))
    made = change_rows(server, read, change, write=change_with_pending)
    archived = [row_of(one.record) for one in made]
    return tuple(sorted({row.task for row in archived if row.source == CONFIG}))
