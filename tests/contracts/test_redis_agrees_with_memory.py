"""Whatever one process does, Redis and memory answer alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from pulse.store.base import StoreOptions
from pulse.store.redis.store import RedisStore
from tests.support.differential import Twins
from tests.support.redis_servers import empty_redis

if TYPE_CHECKING:
    from pulse.testing.clock import FakeClock


class RedisTwins(Twins):
    """Redis, held against memory.

    A lease ends there on the server's clock, in memory on that of who looks: so here the holder
    lives, and renews. That leases end is held against the contract.
    """

    def make(self, clock: FakeClock) -> RedisStore:
        """Return a store on an empty server."""
        return RedisStore(empty_redis().url, clock, StoreOptions(name="twins"), stand_in=clock)

    def time_has_passed(self) -> None:
        """Renew what is held."""
        self.renew()


TestTwins = RedisTwins.TestCase
TestTwins.settings = settings(max_examples=60, stateful_step_count=40)
pytestmark = pytest.mark.server
