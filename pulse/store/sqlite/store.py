"""The SQLite store: `SqlStore` on a file that the processes of a host share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.store.base import Reach
from pulse.store.sql.store import SqlStore
from pulse.store.sqlite.database import SqliteDatabase

if TYPE_CHECKING:
    import os

    from pulse.clock import Clock, Span
    from pulse.store.sql.store import Opened

DAY: Span = 86_400 * SECOND


class SqliteStore(SqlStore):
    """A store in an SQLite file, which all processes of a host share.

    Args:
        path: the file; if there is none, it is created, readable by this user only.
        clock: the clock that decides what is due.
        name: `pulse.config.name`; applications of different names do not share any row.
        keep_runs: about how many finished runs of each task are kept.
        keep_for_us: for how long finished runs are kept at most.
        patience_us: how long a call waits for the lock of the file, in all its attempts.
        opened: the stores that are open in this process; a test that simulates several processes
            gives each its own mapping.

    """

    reach = Reach.HOST

    def __init__(
        self,
        path: str | os.PathLike[str],
        clock: Clock,
        *,
        name: str = "",
        keep_runs: int = 1_000,
        keep_for_us: Span = 30 * DAY,
        patience_us: Span = 5 * SECOND,
        opened: Opened | None = None,
    ) -> None:
        self.path: Path = Path(path)
        super().__init__(
            SqliteDatabase(self.path, clock, space=name, patience_us=patience_us),
            clock,
            name=name,
            keep_runs=keep_runs,
            keep_for_us=keep_for_us,
            opened=opened,
        )
