"""Redis and memory return the same results, whatever one process does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from pulse.clock import SECOND
from pulse.store.base import StoreOptions
from pulse.store.redis.store import RedisStore
from tests.support.differential import MEMBER, SHRINKING_S, StorePair
from tests.support.redis_servers import empty_redis

if TYPE_CHECKING:
    from pulse.testing.clock import FakeClock


class RedisPair(StorePair):
    """Redis compared with memory.

    In Redis a lease ends on the server's clock, in memory on the clock of the observer. So here the
    holder renews its leases, and sends a heartbeat before it would count as dead; the contract
    tests the end of leases.
    """

    def make(self, clock: FakeClock) -> RedisStore:
        """Return a store on an empty server."""
        return RedisStore(empty_redis().url, clock, StoreOptions(name="twins"), stand_in=clock)

    def time_has_passed(self) -> None:
        """Renew the claims, and the membership if it could end."""
        self.renew()
        between_us = MEMBER.lease_us // 3
        if self.clock.wall() - self.last_seen >= between_us:
            # The holder counts the time between heartbeats on a clock that nobody sets.
            self.clock.forward(between_us / SECOND)
            self.beat()


TestAgreement = RedisPair.TestCase
TestAgreement.settings = settings(max_examples=60, stateful_step_count=40)
pytestmark = [pytest.mark.server, pytest.mark.timeout(SHRINKING_S)]
