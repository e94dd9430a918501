"""A process for which another one looks gives its connections back to the server."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest
from redis import Redis

from pulse.clock import SECOND
from pulse.core.task import Task, build_definition
from pulse.store.postgres.store import PostgresStore
from pulse.store.process_identity import this_member
from pulse.store.redis.store import RedisStore
from pulse.testing.clock import FakeClock
from tests.support.redis_servers import empty_redis
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pulse.store.base import Store

pytestmark = pytest.mark.server


_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"


class Asked(NamedTuple):
    """A store that is not open, and a server that names its connections one by one."""

    store: Store
    connect: Callable[[], Connection]
    connected: Callable[[], set[object]]


class Served(NamedTuple):
    """An open store, and how many connections it has according to the server."""

    store: Store
    connections: Callable[[], int]


class Connection(Protocol):
    """A connection of the test."""

    def close(self) -> None:
        """End it."""


@contextmanager
def ask_postgres(request: pytest.FixtureRequest) -> Iterator[Asked]:
    """Ask a PostgreSQL server through a connection that lasts."""
    cluster = request.getfixturevalue("postgres_cluster")
    cluster.empty_applications()
    store = PostgresStore(cluster.url(), FakeClock(), opened={})
    with cluster.connect() as link:
        yield Asked(store, cluster.connect, lambda: set(link.execute(_BACKENDS)))


@contextmanager
def ask_redis(_: pytest.FixtureRequest) -> Iterator[Asked]:
    """Ask a Redis server through a connection that lasts."""
    server = empty_redis()
    store = RedisStore(server.url, FakeClock(), opened={})
    connect = partial(Redis.from_url, server.url, single_connection_client=True)
    with connect() as link:
        yield Asked(store, connect, lambda: {client["id"] for client in link.client_list()})


@pytest.fixture(params=[ask_postgres, ask_redis], ids=["postgres", "redis"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Return an open store of each kind that has a server.

    A connection of the test ends after the store has been opened, as one of an earlier test may.
    """
    with request.param(request) as (store, connect, connected):
        foreign = connect()
        before = connected()
        store.open(this_member("inline", "digest", 30 * SECOND))
        store.sync({"work": build_definition("work", Task(action="/work", interval="1h"))})
        foreign.close()
        wait_until(lambda: before - connected(), what="the foreign connection is closed")
        yield Served(store, lambda: len(connected() - before))
        store.close()


def test_store_that_rests_has_no_connection(served: Served) -> None:
    """The server counts none soon after."""
    assert served.connections() >= 1
    served.store.rest()
    wait_until(lambda: served.connections() == 0, what="the connections are closed")


def test_store_that_rested_is_used_as_before(served: Served) -> None:
    """The next call opens a connection."""
    served.store.rest()
    assert [row.name for row in served.store.tasks()] == ["work"]
    assert served.store.heartbeat().members
    assert served.connections() >= 1
