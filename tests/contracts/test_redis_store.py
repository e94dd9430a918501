"""The Redis store keeps the contract of shared stores, for a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.store.base import StoreOptions
from pulse.store.redis.backend import prefix_of
from pulse.store.redis.client import RedisClient
from pulse.store.redis.store import RedisStore
from tests.contracts.suite.store import SharedStoreContract
from tests.contracts.suite.store_harness import EVERY, LEASE_S, make_task
from tests.support.redis_servers import empty_redis

if TYPE_CHECKING:
    from pulse.clock import Clock
    from tests.contracts.suite.store_harness import Fleet


@pytest.mark.server
class TestRedisStore(SharedStoreContract):
    """Many processes and one server, whose clock the test replaces."""

    @pytest.fixture(autouse=True)
    def _server(self) -> None:
        self.url = empty_redis().url

    def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> RedisStore:
        """Return a store of the test's server; others may be open in this process."""
        return RedisStore(
            self.url, clock, StoreOptions(name=name, keep_runs=keep_runs), stand_in=clock, opened={}
        )

    def test_heartbeat_returns_when_the_next_lease_ends(self, fleet: Fleet) -> None:
        """The lease ends on the server's clock, whichever process reads it."""
        holder = fleet.join({"work": make_task()})
        other = fleet.join({"work": make_task()})
        fleet.wait(LEASE_S, other)
        claim = holder.claim_one()
        over_at = fleet.clock.boot() + LEASE_S * SECOND
        told = [other.store.heartbeat().next_expiry]
        fleet.clock.forward(5)
        told.append(other.store.heartbeat().next_expiry)
        holder.store.renew([claim])
        assert [*told, other.store.heartbeat().next_expiry] == [
            over_at,
            over_at,
            over_at + 5 * SECOND,
        ]

    def test_heartbeat_at_the_end_of_a_lease_abandons_the_run(self, fleet: Fleet) -> None:
        """The run is abandoned after one lease, however far apart other heartbeats are."""
        holder = fleet.join({"work": make_task()})
        other = fleet.join({"work": make_task()})
        fleet.wait(LEASE_S, other)
        claim = holder.claim_one()
        fleet.wait(LEASE_S - 1, other)
        look_at = other.store.heartbeat().next_expiry or 0
        fleet.clock.forward((look_at - fleet.clock.boot()) / SECOND)
        assert [run.id for run in other.store.heartbeat().abandoned] == [claim.run.id]
        assert fleet.clock.wall() == (claim.run.claimed_at or 0) + LEASE_S * SECOND

    def test_new_process_acts_on_expired_leases_after_a_lease_of_checks(self, fleet: Fleet) -> None:
        """The expired lease of another process is abandoned then."""
        holder = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claim = holder.claim_one()
        fleet.clock.forward(2 * LEASE_S)
        other = fleet.join({"work": make_task()})
        came_at = fleet.clock.boot()
        assert other.store.heartbeat().next_expiry == came_at + LEASE_S * SECOND
        beats = fleet.wait(LEASE_S, other)
        assert [run.id for beat in beats for run in beat.abandoned] == [claim.run.id]

    def test_runtime_task_with_the_name_of_a_configured_task_is_archived(
        self, fleet: Fleet
    ) -> None:
        """The declaring process archives the row at its next heartbeat, without a report."""
        process = fleet.join({})
        process.add("work", make_task())
        link = RedisClient(self.url, prefix=prefix_of(""), patience_us=SECOND)
        link.open()
        (record,) = link.command("HVALS", link.key("rows"))
        process.sync({"work": make_task(scope="process")})
        link.command("HSET", link.key("rows"), "/work", record)
        link.close()
        assert not process.store.heartbeat().archived
        assert [row.source for row in process.store.tasks()] == ["config"]
