"""Updates rows as processes come and go; `pulse.store.shared.manifests` has the rules."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pulse.store.lease_watch import ExpiryWatch
from pulse.store.redis.changes import row_change
from pulse.store.redis.codec import row_of
from pulse.store.redis.members import SILENT_LEASES, read_active_definitions
from pulse.store.redis.orphans import change_with_waiting
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

_CONFIG = msgspec.json.Decoder(tuple[int, str])


class RedisReconciler:
    """Takes over rows that this process's definitions stand for, and archives unwanted ones.

    So it does with a row that was added under the name of one of its own tasks of another scope,
    while that one was being declared: rows of two places are not compared in one write.

    The rows are read only when the set of configs that live processes hold has changed: between
    deploys a look costs nothing that grows with the number of tasks.
    """

    __slots__ = ("_fleet", "_hidden", "_over", "_takeovers", "_unwanted", "_watch", "superseded")

    def __init__(self, lease_us: Span) -> None:
        self._watch: ExpiryWatch[str] = ExpiryWatch(lease_us)
        self._fleet: frozenset[tuple[str, str]] | None = None
        self._takeovers: Sequence[tuple[RedisTaskRow, TaskDefinition]] = ()
        self._unwanted: dict[str, RedisTaskRow] = {}
        self._hidden: dict[str, RedisTaskRow] = {}
        self._over: list[RedisTaskRow] = []
        self.superseded: tuple[str, ...] = ()

    def begin(self, superseded: tuple[str, ...]) -> None:
        """Judge the rows anew at the next look: this process has synced."""
        self._fleet = None
        self.superseded = superseded

    def forget(self) -> None:
        """Count anew for how long rows have been unwanted: a call has failed."""
        self._watch.forget()

    def reconcile(
        self, server: RedisClient, caller: RedisCaller, live: Sequence[RedisMemberRow], boot: Span
    ) -> None:
        """Find out what is to be put right, without writing."""
        fleet = frozenset((one.config, one.member.host) for one in live)
        if fleet != self._fleet:
            self._judge(server, caller, live)
            self._fleet = fleet
        span = SILENT_LEASES * caller.member.lease_us
        over = self._watch.expired(dict.fromkeys(self._unwanted, (0, span)), boot)
        self._over = [self._unwanted[row_key] for row_key in sorted(over)]

    def _judge(
        self, server: RedisClient, caller: RedisCaller, live: Sequence[RedisMemberRow]
    ) -> None:
        keys = sorted({one.config for one in live})
        records = server.command("HMGET", server.key("configs"), *keys) if keys else []
        pairs = zip(keys, records, strict=True)
        configs = {key: _CONFIG.decode(record) for key, record in pairs if record is not None}
        rows = read_all(server)
        judged = reconcile(
            [row for row in rows if row.source == CONFIG],
            read_active_definitions(live, configs),
            member=caller.member,
            definitions=caller.definitions,
        )
        self._hidden = {row.task_key: row for row in rows if hides(caller, row)}
        self._unwanted = {row.task_key: row for row in judged.unwanted}
        self._takeovers = judged.takeovers
        self.superseded = judged.superseded

    def has_work(self) -> bool:
        """Return whether `apply` has anything to write."""
        return bool(self._takeovers or self._over or self._hidden)

    def apply(self, server: RedisClient, caller: RedisCaller) -> Reconciled:
        """Write what the last look found."""
        if not self.has_work():
            return Reconciled()
        passed = self._take_over(server, caller)
        over = self._hidden | {row.task_key: row for row in self._over}
        archived = _archive(server, over) if over else ()
        self._fleet = None
        return Reconciled(archived, passed)

    def _take_over(self, server: RedisClient, caller: RedisCaller) -> list[Run]:
        row_keys = {row.task_key: one for row, one in self._takeovers}
        missed: dict[str, Sequence[Run]] = {}

        def change(row: RedisTaskRow, now: Instant) -> RowChange | None:
            one = row_keys[row.task_key]
            stale = row.archived_at is not None or caller.definitions.get(row.task) is not one
            if stale or row.digest == one.digest or row.source != CONFIG:
                return None
            changed = changed_row(row, one, space=caller.space, now=now)
            missed[changed.change.record] = changed.missed
            return changed.change

        read = partial(read_keys, server, list(row_keys))
        made = change_rows(server, read, change, write=change_with_waiting)
        return [run for one in made for run in missed[one.record]]


def _archive(server: RedisClient, over: dict[str, RedisTaskRow]) -> tuple[str, ...]:
    """Put rows away that nobody wants; their floors stay, their waiting runs end."""

    def change(row: RedisTaskRow, now: Instant) -> RowChange | None:
        known = over[row.task_key]
        changed = (row.digest, row.source) != (known.digest, known.source)
        if changed or row.archived_at is not None:
            return None
        return row_change(row.changed(archived_at=now), was=row)

    read = partial(read_keys, server, list(over))
    made = change_rows(server, read, change, write=change_with_waiting)
    archived = [row_of(one.record) for one in made]
    return tuple(sorted({row.task for row in archived if row.source == CONFIG}))
