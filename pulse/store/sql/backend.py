"""The backend of shared stores in SQL: sessions on a database, and where a claim starts to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.sql.due_query import pages_for
from pulse.store.sql.members import SqlFleetWatch
from pulse.store.sql.session import SqlSession

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.clock import Span
    from pulse.store.base import Member
    from pulse.store.shared.backend import Transaction
    from pulse.store.sql.database import Database

CONTENTION_WINDOW = 16
"""For how many claims after a lost one a process starts to read further on in the due rows."""


class SqlBackend:
    """Keeps one application's data in the tables of a database.

    Attributes:
        space: `pulse.config.name`.
        members: how many processes live, as the last heartbeat has found.

    """

    notice = ""
    rolls_back = True

    def __init__(self, database: Database, *, space: str) -> None:
        self.database: Database = database
        self.name: str = database.name
        self.space: str = space
        self.members: int = 1
        self.fleet_watch: SqlFleetWatch = SqlFleetWatch(0)
        self._contested = 0

    def identity(self) -> str:
        """Return a text that is equal for two databases only if they are the same one."""
        return self.database.identity()

    def open(self) -> None:
        """Connect to the database, and create or migrate the tables."""
        self._contested = 0
        self.database.open()

    def close(self) -> None:
        """Close the connections."""
        self.database.close()

    def forked(self) -> None:
        """Give up the connections, which belong to the parent process, without waiting."""
        self.database.forked()

    def sessions(self, how: Transaction) -> Iterator[SqlSession]:
        """Yield attempts at one session until one succeeds."""
        for attempt in self.database.attempts(how):
            yield SqlSession(attempt, self)

    def observe(self, member: Member, *, boot: Span) -> None:  # noqa: ARG002 - counting starts at the first check
        """Start a new observation of the other processes, for *member*."""
        self.fleet_watch = SqlFleetWatch(member.lease_us)

    def forget(self) -> None:
        """Start the observation again: a call has failed, so others may have been silent too."""
        self.fleet_watch.forget()

    def spread_of(self, limit: int) -> int:
        """Return among how many due rows a claim of *limit* may start to read; 0 for the first."""
        return pages_for(self.members) * limit if self._contested else 0

    def note_contention(self, *, contested: bool) -> None:
        """Record whether a claim has lost rows to another process."""
        self._contested = CONTENTION_WINDOW if contested else max(0, self._contested - 1)
