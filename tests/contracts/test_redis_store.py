"""The Redis store keeps the contract, among processes of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis_servers import empty_redis

from pulse.store.redis import RedisStore
from pulse.testing.store import SharedStoreContract

if TYPE_CHECKING:
    from pulse.clock import Clock


@pytest.mark.server
class TestRedisStore(SharedStoreContract):
    """Many processes, one server, whose clock the test's own stands in for."""

    @pytest.fixture(autouse=True)
    def _server(self) -> None:
        self.url = empty_redis().url

    def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> RedisStore:
        """Return a store of the test's server, which may be open in this process already."""
        return RedisStore(
            self.url, clock, name=name, keep_runs=keep_runs, stand_in=clock, opened={}
        )
