"""The SQLite store keeps the contract of shared stores, for processes of one host."""

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
    """Many processes and one file."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> SqliteStore:
        """Return a store on the test's file; others may be open in this process."""
        path = self.folder / "pulse.db"
        return SqliteStore(path, clock, StoreOptions(name=name, keep_runs=keep_runs), opened={})

    def test_heartbeat_returns_when_the_next_lease_ends(self, fleet: Fleet) -> None:
        """The lease is counted from the first check that saw its present mark."""
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

    def test_time_of_a_slow_call_does_not_count_for_leases(self, fleet: Fleet) -> None:
        """No process could renew while the call of the observer waited."""
        holder = fleet.join({"work": make_task()})
        other = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claim = holder.claim_one()
        fleet.wait(LEASE_S // 3, other)
        fleet.clock.forward(LEASE_S - 5)
        assert (other.store.heartbeat().abandoned, holder.store.renew([claim])) == ([], [True])
