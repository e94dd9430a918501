"""Manifests in the database, and how a process updates rows as other processes come and go.

`pulse.store.shared.manifests` has the rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.shared.manifests import Settled, judge, standing_of
from pulse.store.sql.members import SILENT_LEASES
from pulse.store.sql.tasks import archive_rows, change_rows, read_declared

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.task import Definition
    from pulse.store.base import Member
    from pulse.store.lease_watch import Watch
    from pulse.store.shared.manifests import Config, Standing
    from pulse.store.sql.caller import Here
    from pulse.store.sql.database import Link
    from pulse.store.sql.members import Seen
    from pulse.store.sql.tasks import Row

_ADD = "INSERT INTO @configs (config, manifest) VALUES (?, ?) ON CONFLICT (config) DO NOTHING"
_READ = "SELECT born, manifest FROM @configs WHERE config = ?"
_PRUNE = (
    "DELETE FROM @configs WHERE config NOT IN (SELECT config FROM @members)"
    " AND born NOT IN (SELECT born FROM @configs ORDER BY born DESC LIMIT 32)"
)


def add_config(link: Link, config: Config) -> None:
    """Make the manifest known; one that is known already keeps its number."""
    if link.run(_ADD, (config.key, config.manifest)).rowcount:
        link.run(_PRUNE)


def read_standing(link: Link, live: Iterable[tuple[str, Member]]) -> Standing:
    """Return what stands while the processes *live*, each with its config, are alive."""
    hosts_of: dict[str, set[str]] = {}
    for key, member in live:
        hosts_of.setdefault(key, set()).add(member.host)
    return standing_of(
        (born, manifest, hosts)
        for key, hosts in hosts_of.items()
        for born, manifest in link.run(_READ, (key,))
    )


class Deploys:
    """Takes over rows that this process's definitions stand for, and archives unwanted ones.

    The rows are read only when the set of configs that live processes hold has changed: between
    deploys a look costs nothing that grows with the number of tasks.
    """

    __slots__ = ("_fleet", "_over", "_takeovers", "_unwanted", "_watch", "superseded")

    def __init__(self, watch: Watch[int]) -> None:
        self._watch = watch
        self._fleet: frozenset[tuple[str, str]] | None = None
        self._takeovers: Sequence[tuple[Row, Definition]] = ()
        self._unwanted: dict[int, Row] = {}
        self._over: list[Row] = []
        self.superseded: tuple[str, ...] = ()

    def begin(self, superseded: tuple[str, ...]) -> None:
        """Judge the rows anew at the next look: this process has synced."""
        self._fleet = None
        self.superseded = superseded

    def look(self, link: Link, here: Here, live: Sequence[Seen], boot: Span) -> None:
        """Find out what is to be put right, without writing."""
        fleet = frozenset((one.config, one.member.host) for one in live)
        if fleet != self._fleet:
            standing = read_standing(link, [(one.config, one.member) for one in live])
            self._judge(here, standing, read_declared(link))
            self._fleet = fleet
        span = SILENT_LEASES * here.member.lease_us
        over = self._watch.look(dict.fromkeys(self._unwanted, (0, span)), boot)
        self._over = [self._unwanted[key] for key in sorted(over)]

    def _judge(self, here: Here, standing: Standing, present: Sequence[Row]) -> None:
        judged = judge(present, standing, member=here.member, definitions=here.definitions)
        self._unwanted = {row.key: row for row in judged.unwanted}
        self._takeovers = judged.takeovers
        self.superseded = judged.superseded

    def has_work(self) -> bool:
        """Return whether `settle` has anything to write."""
        return bool(self._takeovers or self._over)

    def settle(self, link: Link, here: Here, now: Instant) -> Settled:
        """Write what the last look found."""
        if not self.has_work():
            return Settled()
        current = {row.key: row for row in read_declared(link)}
        changed = [
            (current[row.key], definition)
            for row, definition in self._takeovers
            if row.key in current and here.definitions.get(row.task) is definition
        ]
        passed = change_rows(link, here, changed, now)
        over = [row for row in self._over if current.get(row.key) == row]
        archive_rows(link, over, now)
        self._fleet = None
        return Settled(tuple(sorted({row.task for row in over})), passed)
