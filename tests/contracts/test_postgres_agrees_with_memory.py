"""The PostgreSQL store and the memory store return the same results for the same calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from pulse.store.base import StoreOptions
from pulse.store.postgres.store import PostgresStore
from tests.support.differential import SHRINKING_S, StorePair

if TYPE_CHECKING:
    from pulse.testing.clock import FakeClock
    from tests.support.postgres import PostgresCluster


@pytest.mark.server
@pytest.mark.timeout(SHRINKING_S)
def test_postgres_and_memory_return_the_same(postgres_cluster: PostgresCluster) -> None:
    """The same calls return the same results, and leave the same rows and runs."""

    class PostgresPair(StorePair):
        """PostgreSQL beside memory."""

        def make(self, clock: FakeClock) -> PostgresStore:
            postgres_cluster.empty_applications()
            return PostgresStore(
                postgres_cluster.url(),
                clock,
                StoreOptions(name="twins"),
                server_clock=clock.wall,
                opened={},
            )

    run_state_machine_as_test(
        PostgresPair,
        settings=settings(max_examples=25, stateful_step_count=30),
    )
