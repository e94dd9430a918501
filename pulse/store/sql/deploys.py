"""Manifests in the database, and how a process updates rows as other processes come and go.

`pulse.store.shared.manifests` has the rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.shared.manifests import Reconciled, active_definitions, reconcile
from pulse.store.sql.members import SILENT_LEASES
from pulse.store.sql.tasks import archive_rows, change_rows, read_declared

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member
    from pulse.store.lease_watch import ExpiryWatch
    from pulse.store.shared.manifests import ActiveDefinitions, Manifest
    from pulse.store.sql.caller import SqlCaller
    from pulse.store.sql.database import Connection
    from pulse.store.sql.members import SqlMemberRow
    from pulse.store.sql.tasks import SqlTaskRow

_ADD = "INSERT INTO @configs (config, manifest) VALUES (?, ?) ON CONFLICT (config) DO NOTHING"
_READ = "SELECT born, manifest FROM @configs WHERE config = ?"
_PRUNE = (
    "DELETE FROM @configs WHERE config NOT IN (SELECT config FROM @members)"
    " AND born NOT IN (SELECT born FROM @configs ORDER BY born DESC LIMIT 32)"
)


def add_manifest(connection: Connection, config: Manifest) -> None:
    """Make the manifest known; one that is known already keeps its number."""
    if connection.execute(_ADD, (config.key, config.manifest)).rowcount:
        connection.execute(_PRUNE)


def read_active_definitions(
    connection: Connection, live: Iterable[tuple[str, Member]]
) -> ActiveDefinitions:
    """Return what stands while the processes *live*, each with its config, are alive."""
    hosts_of: dict[str, set[str]] = {}
    for key, member in live:
        hosts_of.setdefault(key, set()).add(member.host)
    return active_definitions(
        (born, manifest, hosts)
        for key, hosts in hosts_of.items()
        for born, manifest in connection.execute(_READ, (key,))
    )


class SqlReconciler:
    """Takes over rows that this process's definitions stand for, and archives unwanted ones.

    The rows are read only when the set of configs that live processes hold has changed: between
    deploys a look costs nothing that grows with the number of tasks.
    """

    __slots__ = ("_fleet", "_over", "_takeovers", "_unwanted", "_watch", "superseded")

    def __init__(self, watch: ExpiryWatch[int]) -> None:
        self._watch = watch
        self._fleet: frozenset[tuple[str, str]] | None = None
        self._takeovers: Sequence[tuple[SqlTaskRow, TaskDefinition]] = ()
        self._unwanted: dict[int, SqlTaskRow] = {}
        self._over: list[SqlTaskRow] = []
        self.superseded: tuple[str, ...] = ()

    def begin(self, superseded: tuple[str, ...]) -> None:
        """Judge the rows anew at the next look: this process has synced."""
        self._fleet = None
        self.superseded = superseded

    def reconcile(
        self, connection: Connection, caller: SqlCaller, live: Sequence[SqlMemberRow], boot: Span
    ) -> None:
        """Find out what is to be put right, without writing."""
        fleet = frozenset((one.config, one.member.host) for one in live)
        if fleet != self._fleet:
            active = read_active_definitions(connection, [(one.config, one.member) for one in live])
            self._judge(caller, active, read_declared(connection))
            self._fleet = fleet
        span = SILENT_LEASES * caller.member.lease_us
        over = self._watch.expired(dict.fromkeys(self._unwanted, (0, span)), boot)
        self._over = [self._unwanted[key] for key in sorted(over)]

    def _judge(
        self, caller: SqlCaller, active: ActiveDefinitions, present: Sequence[SqlTaskRow]
    ) -> None:
        judged = reconcile(present, active, member=caller.member, definitions=caller.definitions)
        self._unwanted = {row.key: row for row in judged.unwanted}
        self._takeovers = judged.takeovers
        self.superseded = judged.superseded

    def has_work(self) -> bool:
        """Return whether `apply` has anything to write."""
        return bool(self._takeovers or self._over)

    def apply(self, connection: Connection, caller: SqlCaller, now: Instant) -> Reconciled:
        """Write what the last look found."""
        if not self.has_work():
            return Reconciled()
        current = {row.key: row for row in read_declared(connection)}
        changed = [
            (current[row.key], definition)
            for row, definition in self._takeovers
            if row.key in current and caller.definitions.get(row.task) is definition
        ]
        passed = change_rows(connection, caller, changed, now)
        over = [row for row in self._over if current.get(row.key) == row]
        archive_rows(connection, over, now)
        self._fleet = None
        return Reconciled(tuple(sorted({row.task for row in over})), passed)
