"""Unfinished runs in SQL: pending ones, posted ones, and those of lost processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.core.run import QUEUE_HOLDER
from pulse.store.shared.backend import Orphans
from pulse.store.sql.apply import UNFINISHED_RUN
from pulse.store.sql.codec import RUN_COLUMNS, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pulse.clock import Span
    from pulse.core.run import Run
    from pulse.store.base import Member
    from pulse.store.shared.backend import Posting
    from pulse.store.sql.database import Connection

_RUNS = f"SELECT {RUN_COLUMNS} FROM @runs"  # noqa: S608 - constants alone
_PENDING = f"{_RUNS} WHERE outcome IS NULL AND holder = '' AND task IN (?*)"
PENDING_IN = f"{_RUNS} WHERE outcome IS NULL AND holder = '' AND place IN (?*)"
_CLAIMED_BY = f"{_RUNS} WHERE outcome IS NULL AND holder <> '' AND holder IN (?*)"
_CLAIMED_OF = f"{_RUNS} WHERE outcome IS NULL AND holder <> '' AND task IN (?*)"
_TAKE = (
    "UPDATE @runs SET holder = ?, lease_us = ?, mark = ?, message = ''"  # noqa: S608 - constants alone
    f" WHERE id = ? AND task = ? AND attempt = ? AND holder IN (?, ?) AND {UNFINISHED_RUN}"
)
"""One comparison for both holders: see `pulse.store.shared.posting`."""


class SqlUnfinished:
    """The part of a session that reads unfinished runs, and takes posted ones."""

    __slots__ = ()

    connection: Connection

    def read_pending(self, tasks: Mapping[str, Sequence[str]]) -> Sequence[Run]:
        """Return the pending runs of some tasks, which are given by partition."""
        return list(self._runs_of(_PENDING, tasks))

    def read_posted(self, tasks: Mapping[str, Sequence[str]]) -> Sequence[Run]:
        """Return the posted runs of some tasks, which are given by partition."""
        return [run for run in self._runs_of(_CLAIMED_OF, tasks) if run.holder == QUEUE_HOLDER]

    def _runs_of(self, text: str, tasks: Mapping[str, Sequence[str]]) -> Iterator[Run]:
        names = sorted({name for some in tasks.values() for name in some})
        wanted = {partition: frozenset(some) for partition, some in tasks.items()}
        found = map(run_of, self.connection.select_in(text, names))
        return (run for run in found if run.task in wanted.get(run.partition, ()))

    def take_run(self, posting: Posting, *, member: Member, boot: Span) -> Run | None:
        """Let *member* claim a run that is posted, or is being posted."""
        ident, task, attempt, poster = posting
        holders = (poster or QUEUE_HOLDER, QUEUE_HOLDER)
        values = (member.holder, member.lease_us, boot, ident, task, attempt, *holders)
        cells = self.connection.update_run(_TAKE, values, ident)
        return None if cells is None else run_of(cells)

    def read_orphans(self, holders: Sequence[str]) -> Orphans:
        """Return the runs that *holders* have claimed, and those pending in their partitions."""
        claimed = map(run_of, self.connection.select_in(_CLAIMED_BY, holders))
        pending = map(run_of, self.connection.select_in(PENDING_IN, holders))
        return Orphans(list(claimed), list(pending))
