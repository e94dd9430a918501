"""Updates rows as processes come and go; `pulse.store.shared.manifests` has the rules."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pulse.store.lease_watch import Watch
from pulse.store.redis.changes import row_change
from pulse.store.redis.codec import row_of
from pulse.store.redis.members import SILENT_LEASES, standing
from pulse.store.redis.orphans import change_with_waiting
from pulse.store.redis.sync import changed_row, hides
from pulse.store.redis.tasks import change_rows, read_all, read_spots
from pulse.store.rules import CONFIG
from pulse.store.shared.manifests import Settled, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.core.task import Definition
    from pulse.store.redis.changes import RowChange
    from pulse.store.redis.client import Server
    from pulse.store.redis.codec import Row, Seen
    from pulse.store.redis.due import Here

_CONFIG = msgspec.json.Decoder(tuple[int, str])


class Deploys:
    """Takes over rows that this process's definitions stand for, and archives unwanted ones.

    So it does with a row that was added under the name of one of its own tasks of another scope,
    while that one was being declared: rows of two places are not compared in one write.

    The rows are read only when the set of configs that live processes hold has changed: between
    deploys a look costs nothing that grows with the number of tasks.
    """

    __slots__ = ("_fleet", "_hidden", "_over", "_takeovers", "_unwanted", "_watch", "superseded")

    def __init__(self, lease_us: Span) -> None:
        self._watch: Watch[str] = Watch(lease_us)
        self._fleet: frozenset[tuple[str, str]] | None = None
        self._takeovers: Sequence[tuple[Row, Definition]] = ()
        self._unwanted: dict[str, Row] = {}
        self._hidden: dict[str, Row] = {}
        self._over: list[Row] = []
        self.superseded: tuple[str, ...] = ()

    def begin(self, superseded: tuple[str, ...]) -> None:
        """Judge the rows anew at the next look: this process has synced."""
        self._fleet = None
        self.superseded = superseded

    def forget(self) -> None:
        """Count anew for how long rows have been unwanted: a call has failed."""
        self._watch.forget()

    def look(self, server: Server, here: Here, live: Sequence[Seen], boot: Span) -> None:
        """Find out what is to be put right, without writing."""
        fleet = frozenset((one.config, one.member.host) for one in live)
        if fleet != self._fleet:
            self._judge(server, here, live)
            self._fleet = fleet
        span = SILENT_LEASES * here.member.lease_us
        over = self._watch.look(dict.fromkeys(self._unwanted, (0, span)), boot)
        self._over = [self._unwanted[spot] for spot in sorted(over)]

    def _judge(self, server: Server, here: Here, live: Sequence[Seen]) -> None:
        keys = sorted({one.config for one in live})
        records = server.command("HMGET", server.key("configs"), *keys) if keys else []
        pairs = zip(keys, records, strict=True)
        configs = {key: _CONFIG.decode(record) for key, record in pairs if record is not None}
        rows = read_all(server)
        judged = judge(
            [row for row in rows if row.source == CONFIG],
            standing(live, configs),
            member=here.member,
            definitions=here.definitions,
        )
        self._hidden = {row.spot: row for row in rows if hides(here, row)}
        self._unwanted = {row.spot: row for row in judged.unwanted}
        self._takeovers = judged.takeovers
        self.superseded = judged.superseded

    def has_work(self) -> bool:
        """Return whether `settle` has anything to write."""
        return bool(self._takeovers or self._over or self._hidden)

    def settle(self, server: Server, here: Here) -> Settled:
        """Write what the last look found."""
        if not self.has_work():
            return Settled()
        passed = self._take_over(server, here)
        over = self._hidden | {row.spot: row for row in self._over}
        archived = _archive(server, over) if over else ()
        self._fleet = None
        return Settled(archived, passed)

    def _take_over(self, server: Server, here: Here) -> list[Run]:
        spots = {row.spot: one for row, one in self._takeovers}
        missed: dict[str, Sequence[Run]] = {}

        def change(row: Row, now: Instant) -> RowChange | None:
            one = spots[row.spot]
            stale = row.archived_at is not None or here.definitions.get(row.task) is not one
            if stale or row.digest == one.digest or row.source != CONFIG:
                return None
            changed = changed_row(row, one, space=here.space, now=now)
            missed[changed.change.record] = changed.missed
            return changed.change

        read = partial(read_spots, server, list(spots))
        made = change_rows(server, read, change, write=change_with_waiting)
        return [run for one in made for run in missed[one.record]]


def _archive(server: Server, over: dict[str, Row]) -> tuple[str, ...]:
    """Put rows away that nobody wants; their floors stay, their waiting runs end."""

    def change(row: Row, now: Instant) -> RowChange | None:
        known = over[row.spot]
        changed = (row.digest, row.source) != (known.digest, known.source)
        if changed or row.archived_at is not None:
            return None
        return row_change(row.changed(archived_at=now), was=row)

    read = partial(read_spots, server, list(over))
    made = change_rows(server, read, change, write=change_with_waiting)
    archived = [row_of(one.record) for one in made]
    return tuple(sorted({row.task for row in archived if row.source == CONFIG}))
