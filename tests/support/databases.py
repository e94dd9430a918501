"""A PostgreSQL database for one test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.store.postgres.schema import schema_of
from pulse.store.postgres.store import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.testing.clock import FakeClock
    from tests.support.postgres import PostgresCluster

    MakePostgres = Callable[[FakeClock], PostgresStore]

NAME = "shop"
LIMIT = SECOND
_KICK = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{NAME}'"  # noqa: S608 - a constant of this file


class Database:
    """A database of a cluster; `create` makes it."""

    def __init__(self, cluster: PostgresCluster) -> None:
        self.run = cluster.run
        self.user = cluster.user
        self._port = cluster.port

    def make(self, clock: FakeClock) -> PostgresStore:
        """Return a store in this database, on the clock of a test."""
        return self.maker(self.user)(clock)

    def maker(self, user: str, database: str = NAME) -> MakePostgres:
        """Return a function that makes a store for another user or database."""
        url = f"postgresql://{user}@127.0.0.1:{self._port}/{database}"
        return lambda clock: PostgresStore(
            url, clock, server_clock=clock.wall, opened={}, limit_us=LIMIT
        )

    def create(self) -> None:
        """Create the database empty, and drop an existing one first."""
        self.drop()
        self.run(f"CREATE DATABASE {NAME}")

    def drop(self) -> None:
        """Drop the database, and close its connections."""
        self.run(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")

    def inside(self, text: str) -> None:
        """Execute a statement in the database; `@` stands for the schema of the application."""
        self.run(text.replace("@", schema_of("")), database=NAME)

    def set_read_only(self, *, read_only: bool) -> None:
        """Make the database refuse or accept writes, as a failover does; close all connections."""
        self.run(f"ALTER DATABASE {NAME} SET default_transaction_read_only = {read_only}")
        self.run(_KICK)
