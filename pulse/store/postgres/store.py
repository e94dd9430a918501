"""The PostgreSQL store: a shared store whose backend is a database on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.policies import Scope
from pulse.store.base import DEFAULT_OPTIONS, StoreOptions
from pulse.store.postgres.database import PostgresDatabase
from pulse.store.postgres.gevent_support import calls_yield
from pulse.store.postgres.schema import MIGRATIONS
from pulse.store.shared.store import SharedStore
from pulse.store.sql.backend import SqlBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Clock, Instant, Span
    from pulse.store.postgres.schema import Migrations
    from pulse.store.shared.store import Opened


class PostgresStore(SharedStore):
    """A store in a PostgreSQL database, which all processes of a fleet share.

    The arguments are those of `PostgresDatabase` and of `SharedStore`.
    """

    reach = Scope.FLEET

    def __init__(
        self,
        url: str,
        clock: Clock,
        options: StoreOptions = DEFAULT_OPTIONS,
        *,
        limit_us: Span = 5 * SECOND,
        server_clock: Callable[[], Instant] | None = None,
        ladder: Migrations = MIGRATIONS,
        opened: Opened | None = None,
    ) -> None:
        database = PostgresDatabase(
            url,
            space=options.name,
            limit_us=limit_us,
            server_clock=server_clock,
            ladder=ladder,
            creates=options.creates,
        )
        super().__init__(SqlBackend(database, space=options.name), clock, options, opened=opened)
        self.blocking: bool = not calls_yield()
