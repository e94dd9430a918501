"""The SQLite store: a shared store whose backend is a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.policies import Scope
from pulse.store.base import DEFAULT_OPTIONS, StoreOptions
from pulse.store.shared.store import SharedStore
from pulse.store.sql.backend import SqlBackend
from pulse.store.sqlite.database import SqliteDatabase

if TYPE_CHECKING:
    import os

    from pulse.clock import Clock, Span
    from pulse.store.shared.store import Opened


class SqliteStore(SharedStore):
    """A store in an SQLite file, which all processes of a host share.

    The arguments are those of `SqliteDatabase` and of `SharedStore`.
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
        database = SqliteDatabase(
            self.path,
            clock,
            space=options.name,
            patience_us=patience_us,
            creates=options.creates,
        )
        backend = SqlBackend(database, space=options.name)
        super().__init__(backend, clock, options, opened=opened)
