"""The SQLite store: its file, given to the keeper that all stores with SQL share."""

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
    """Lets all processes of a host agree through one SQLite file.

    Args:
        path: the file; it is made, readable by this user alone, where there is none.
        clock: tells what is due.
        name: `pulse.config.name`: applications of different names share a file unseen.
        keep_runs: about how many ended runs of each task are remembered.
        keep_for_us: how long they are remembered at most.
        patience_us: how long a call goes on trying while others hold the file locked.
        opened: what this process has open; a test in which one process plays many gives each its
            own.

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
