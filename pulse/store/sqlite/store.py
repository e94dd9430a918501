"""The SQLite store: its file, given to the keeper that all stores with SQL share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.policies import Scope
from pulse.store.base import DEFAULT_OPTIONS, StoreOptions
from pulse.store.sql.store import SqlStore
from pulse.store.sqlite.database import SqliteDatabase

if TYPE_CHECKING:
    import os

    from pulse.clock import Clock, Span
    from pulse.store.sql.store import Opened


class SqliteStore(SqlStore):
    """Lets all processes of a host agree through one SQLite file.

    Args:
        path: the file; it is made, readable by this user alone, where there is none.
        clock: tells what is due.
        options: the name of the application, and how many finished runs are kept.
        patience_us: how long a call goes on trying while others hold the file locked.
        opened: what this process has open; a test in which one process plays many gives each its
            own.

    """

    reach = Scope.HOST

    def __init__(
        self,
        path: str | os.PathLike[str],
        clock: Clock,
        options: StoreOptions = DEFAULT_OPTIONS,
        *,
        patience_us: Span = 5 * SECOND,
        opened: Opened | None = None,
    ) -> None:
        self.path: Path = Path(path)
        super().__init__(
            SqliteDatabase(self.path, clock, space=options.name, patience_us=patience_us),
            clock,
            options,
            opened=opened,
        )
