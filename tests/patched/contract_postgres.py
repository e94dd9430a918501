"""The PostgreSQL store fulfils the contract when psycopg waits with gevent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import pytest

from pulse.clock import SECOND, Clock, SystemClock
from pulse.store.base import StoreOptions
from pulse.store.postgres.database import PostgresDatabase
from pulse.store.postgres.gevent_support import imported_too_early
from pulse.store.postgres.store import PostgresStore
from pulse.store.process_identity import this_member
from tests.contracts.suite.store import SharedStoreContract
from tests.support.transactions import fetch

if TYPE_CHECKING:
    from tests.support.postgres import PostgresCluster


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


_ASLEEP = "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT 1 FROM pg_sleep(60)'"


def test_calls_yield_to_other_greenlets(postgres_cluster: PostgresCluster) -> None:
    """The loop calls the store without a thread, and other greenlets run while it waits."""
    store = PostgresStore(postgres_cluster.url(), SystemClock())
    server = PostgresDatabase(
        postgres_cluster.url(), space="", limit_us=5 * SECOND, server_clock=None
    )
    server.open()
    turns = []
    ticker = gevent.spawn(lambda: [turns.append(gevent.sleep(0.01)) for _ in range(1_000)])
    fetch(server, "SELECT 1 FROM pg_sleep(0.3)")
    ticker.kill()
    server.close()
    assert (store.blocking, imported_too_early()) == (False, False)
    assert len(turns) > 5


def test_killed_greenlet_leaves_no_connection_in_use(
    postgres_cluster: PostgresCluster,
) -> None:
    """Its connection is closed, and the next call is answered."""
    store = PostgresStore(postgres_cluster.url(), SystemClock())
    store.open(this_member("gevent", "digest", 30 * SECOND))
    server = PostgresDatabase(
        postgres_cluster.url(), space="", limit_us=5 * SECOND, server_clock=None
    )
    server.open()
    victim = gevent.spawn(fetch, server, "SELECT 1 FROM pg_sleep(60)")
    with gevent.Timeout(10):
        while not postgres_cluster.run(_ASLEEP):
            gevent.sleep(0.01)
    victim.kill()
    assert fetch(server, "SELECT 7") == [(7,)]
    server.close()
    store.close()
