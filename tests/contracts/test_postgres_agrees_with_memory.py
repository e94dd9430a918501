"""Whatever one process does, PostgreSQL and memory answer alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from pulse.store.base import StoreOptions
from pulse.store.postgres.store import PostgresStore
from tests.support.differential import StorePair

if TYPE_CHECKING:
    from pulse.testing.clock import FakeClock
    from tests.support.postgres import PostgresCluster


@pytest.mark.server
def test_postgres_and_memory_agree(postgres_cluster: PostgresCluster) -> None:
    """The same calls get the same answers, and leave the same rows and runs."""

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
