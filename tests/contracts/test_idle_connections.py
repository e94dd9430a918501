"""A process for which another one looks gives its connections back to the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

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


_CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


class Served(NamedTuple):
    """A store on a server, and how many connections the server counts beside that of the test."""

    store: Store
    connections: Callable[[], int]


@pytest.fixture(params=["postgres", "redis"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Return an open store of each kind that has a server."""
    clock = FakeClock()
    if request.param == "redis":
        server = empty_redis()
        store: Store = RedisStore(server.url, clock, opened={})

        def connections() -> int:
            lines = server.ask("INFO", "clients").decode().splitlines()
            found = dict(line.split(":") for line in lines if ":" in line)
            return int(found["connected_clients"]) - 1
    else:
        cluster = request.getfixturevalue("postgres_cluster")
        cluster.empty_applications()
        store = PostgresStore(cluster.url(), clock, opened={})

        def connections() -> int:
            ((count,),) = cluster.run(_CONNECTIONS)
            return int(count)

    before = connections()
    store.open(this_member("inline", "digest", 30 * SECOND))
    store.sync({"work": build_definition("work", Task(action="/work", interval="1h"))})
    yield Served(store, lambda: connections() - before)
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
