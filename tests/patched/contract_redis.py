"""The contract of stores over Redis, in a process that gevent has patched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event

from pulse.clock import SystemClock
from pulse.store.base import StoreOptions
from pulse.store.process_identity import this_member
from pulse.store.redis.store import RedisStore
from tests.contracts.suite.store import SharedStoreContract
from tests.support.redis_servers import empty_redis

if TYPE_CHECKING:
    from tests.support.redis_servers import RedisServer

LEASE_US = 30_000_000


class TestRedisStore(SharedStoreContract):
    """Greenlets that share connections, each in its turn."""

    @pytest.fixture(autouse=True)
    def _server(self) -> None:
        self.url = empty_redis().url

    def make(self, clock: object, *, name: str = "", keep_runs: int = 1_000) -> RedisStore:
        """Return a store of the test's server."""
        return RedisStore(
            self.url, clock, StoreOptions(name=name, keep_runs=keep_runs), stand_in=clock, opened={}
        )


def await_call(server: RedisServer) -> None:
    """Wait until a call has come to a server that is paused."""
    with gevent.Timeout(10):
        while not server.unread():
            gevent.sleep(0.001)


def test_the_hub_goes_on_while_the_server_does_not_answer() -> None:
    """A call that waits for a server waits in its own greenlet."""
    server = empty_redis()
    store = RedisStore(server.url, SystemClock(), opened={})
    store.open(this_member("gevent", "digest", LEASE_US))
    server.pause()
    waiting = gevent.spawn(store.tasks)
    await_call(server)
    others_went_on = Event()
    gevent.spawn(others_went_on.set)
    assert others_went_on.wait(1)
    assert not waiting.dead
    server.resume()
    assert waiting.get(timeout=5) == []
    store.close()


def test_a_greenlet_that_is_killed_in_a_call_leaves_the_store_usable() -> None:
    """Its connection is thrown away, and nobody gets its answer."""
    server = empty_redis()
    store = RedisStore(server.url, SystemClock(), opened={})
    store.open(this_member("gevent", "digest", LEASE_US))
    server.pause()
    waiting = gevent.spawn(store.tasks)
    await_call(server)
    waiting.kill()
    server.resume()
    assert [one.mode for one in store.members()] == ["gevent"]
    store.close()
