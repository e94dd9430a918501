"""The SQLite store keeps the contract, among processes of one host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.store.base import StoreOptions
from pulse.store.sqlite.store import SqliteStore
from tests.contracts.suite.store import SharedStoreContract
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, make_task

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.clock import Clock


class TestSqliteStore(SharedStoreContract):
    """Many processes, one file."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> SqliteStore:
        """Return a store on the test's file, which may be open in this process already."""
        path = self.folder / "pulse.db"
        return SqliteStore(path, clock, StoreOptions(name=name, keep_runs=keep_runs), opened={})

    def test_a_beat_tells_when_a_lease_is_over(self, fleet: Fleet) -> None:
        """It counts from the first look at the lease as it stands."""
        holder = fleet.join({"work": make_task()})
        other = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claim = holder.claim_one()
        told = [other.store.heartbeat().next_expiry, other.store.heartbeat().next_expiry]
        over_at = fleet.clock.boot() + LEASE_S * SECOND
        fleet.clock.forward(5)
        holder.store.renew([claim])
        assert [*told, other.store.heartbeat().next_expiry] == [
            over_at,
            over_at,
            over_at + 5 * SECOND,
        ]

    def test_a_holder_may_renew_after_the_store_kept_all_waiting(self, fleet: Fleet) -> None:
        """Nobody could renew while a call of the observer waited, so that time does not count."""
        holder = fleet.join({"work": make_task()})
        other = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claim = holder.claim_one()
        fleet.wait(LEASE_S // 3, other)
        fleet.clock.forward(LEASE_S - 5)
        assert (other.store.heartbeat().abandoned, holder.store.renew([claim])) == ([], [True])
