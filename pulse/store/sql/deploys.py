"""Manifests in the database, and the update of rows when processes join or leave.

The rules are in `pulse.store.shared.manifests`.
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
    """Save a manifest; one that is saved already keeps its number."""
    if connection.execute(_ADD, (config.key, config.manifest)).rowcount:
        connection.execute(_PRUNE)


def read_active_definitions(
    connection: Connection, live: Iterable[tuple[str, Member]]
) -> ActiveDefinitions:
    """Return the definitions that are active while the processes *live* are alive.

    Each process is given with the key of its manifest.
    """
    hosts_of: dict[str, set[str]] = {}
    for key, member in live:
        hosts_of.setdefault(key, set()).add(member.host)
    return active_definitions(
        (born, manifest, hosts)
        for key, hosts in hosts_of.items()
        for born, manifest in connection.execute(_READ, (key,))
    )


class SqlReconciler:
    """Takes over rows whose active definition is this process's, and archives unwanted rows.

    The rows are read only when the set of manifests of the live processes has changed: between
    deploys the cost of a heartbeat does not grow with the number of tasks.
    """

    __slots__ = ("_expired", "_fleet", "_takeovers", "_unwanted", "_watch", "superseded")

    def __init__(self, watch: ExpiryWatch[int]) -> None:
        self._watch = watch
        self._fleet: frozenset[tuple[str, str]] | None = None
        self._takeovers: Sequence[tuple[SqlTaskRow, TaskDefinition]] = ()
        self._unwanted: dict[int, SqlTaskRow] = {}
        self._expired: list[SqlTaskRow] = []
        self.superseded: tuple[str, ...] = ()

    def begin(self, superseded: tuple[str, ...]) -> None:
        """Read the rows again at the next heartbeat, because this process has synced."""
        self._fleet = None
        self.superseded = superseded

    def reconcile(
        self, connection: Connection, caller: SqlCaller, live: Sequence[SqlMemberRow], boot: Span
    ) -> None:
        """Find the rows to take over and to archive, without writing."""
        fleet = frozenset((one.config, one.member.host) for one in live)
        if fleet != self._fleet:
            active = read_active_definitions(connection, [(one.config, one.member) for one in live])
            self._compare(caller, active, read_declared(connection))
            self._fleet = fleet
        span = SILENT_LEASES * caller.member.lease_us
        expired = self._watch.expired(dict.fromkeys(self._unwanted, (0, span)), boot)
        self._expired = [self._unwanted[key] for key in sorted(expired)]

    def _compare(
        self, caller: SqlCaller, active: ActiveDefinitions, present: Sequence[SqlTaskRow]
    ) -> None:
        found = reconcile(present, active, member=caller.member, definitions=caller.definitions)
        self._unwanted = {row.key: row for row in found.unwanted}
        self._takeovers = found.takeovers
        self.superseded = found.superseded

    def has_work(self) -> bool:
        """Return whether `apply` has anything to write."""
        return bool(self._takeovers or self._expired)

    def apply(self, connection: Connection, caller: SqlCaller, now: Instant) -> Reconciled:
        """Write what `reconcile` has found, for rows that have not changed since."""
        if not self.has_work():
            return Reconciled()
        current = {row.key: row for row in read_declared(connection)}
        changed = [
            (current[row.key], definition)
            for row, definition in self._takeovers
            if row.key in current and caller.definitions.get(row.task) is definition
        ]
        missed = change_rows(connection, caller, changed, now)
        archived = [row for row in self._expired if current.get(row.key) == row]
        archive_rows(connection, archived, now)
        self._fleet = None
        return Reconciled(tuple(sorted({row.task for row in archived})), missed)
