"""The PostgreSQL store fulfils the contract of stores that processes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.core.policies import Scope
from pulse.store.base import StoreOptions
from pulse.store.postgres.store import PostgresStore
from tests.contracts.suite.store import SharedStoreContract

if TYPE_CHECKING:
    from pulse.clock import Clock
    from tests.support.postgres import PostgresCluster


@pytest.mark.server
class TestPostgresStore(SharedStoreContract):
    """Many processes, one database, which each test finds empty."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres_cluster: PostgresCluster) -> None:
        postgres_cluster.empty_applications()
        self.url = postgres_cluster.url()

    def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> PostgresStore:
        """Return a store in the test's database, which may be open in this process already."""
        return PostgresStore(
            self.url,
            clock,
            StoreOptions(name=name, keep_runs=keep_runs),
            server_clock=clock.wall,
            opened={},
        )


def test_postgres_store_runs_ticks_once_per_fleet() -> None:
    """The store declares that all processes share it."""
    assert PostgresStore.reach is Scope.FLEET
