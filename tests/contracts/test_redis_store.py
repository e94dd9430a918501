"""The Redis store keeps the contract, among processes of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.store.base import StoreOptions
from pulse.store.redis.client import RedisClient
from pulse.store.redis.store import RedisStore, prefix_of
from tests.contracts.suite.store import SharedStoreContract
from tests.contracts.suite.store_harness import EVERY, LEASE_S, make_task
from tests.support.redis_servers import empty_redis

if TYPE_CHECKING:
    from pulse.clock import Clock
    from tests.contracts.suite.store_harness import Fleet


@pytest.mark.server
class TestRedisStore(SharedStoreContract):
    """Many processes, one server, whose clock the test's own stands in for."""

    @pytest.fixture(autouse=True)
    def _server(self) -> None:
        self.url = empty_redis().url

    def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> RedisStore:
        """Return a store of the test's server, which may be open in this process already."""
        return RedisStore(
            self.url, clock, StoreOptions(name=name, keep_runs=keep_runs), stand_in=clock, opened={}
        )

    def test_a_beat_tells_when_a_lease_is_over(self, fleet: Fleet) -> None:
        """It ends on the server's clock, whoever looks at it."""
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

    def test_a_beat_at_that_instant_abandons_the_run(self, fleet: Fleet) -> None:
        """So it is abandoned after a lease, however far apart the beats are otherwise."""
        holder = fleet.join({"work": make_task()})
        other = fleet.join({"work": make_task()})
        fleet.wait(LEASE_S, other)
        claim = holder.claim_one()
        fleet.wait(LEASE_S - 1, other)
        look_at = other.store.heartbeat().next_expiry or 0
        fleet.clock.forward((look_at - fleet.clock.boot()) / SECOND)
        assert [run.id for run in other.store.heartbeat().abandoned] == [claim.run.id]
        assert fleet.clock.wall() == (claim.run.claimed_at or 0) + LEASE_S * SECOND

    def test_a_process_that_has_just_come_looks_when_it_may_act(self, fleet: Fleet) -> None:
        """A lease that was over before is judged after a lease of its own looks."""
        holder = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claim = holder.claim_one()
        fleet.clock.forward(2 * LEASE_S)
        other = fleet.join({"work": make_task()})
        came_at = fleet.clock.boot()
        assert other.store.heartbeat().next_expiry == came_at + LEASE_S * SECOND
        beats = fleet.wait(LEASE_S, other)
        assert [run.id for beat in beats for run in beat.abandoned] == [claim.run.id]

    def test_what_was_added_while_its_name_was_declared_makes_way(self, fleet: Fleet) -> None:
        """Whoever declares it puts the other row away at its next beat, and says nothing of it."""
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
