"""How often the calls of one tick wait for the PostgreSQL server."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from pulse.clock import SECOND
from pulse.core.task import build_definition
from pulse.store.postgres.connection import PostgresConnection
from pulse.store.postgres.store import PostgresStore
from pulse.store.process_identity import this_member
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import EVERY, make_task, succeed
from tests.support.black_hole import BlackHole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pulse.store.sql.database import Cell, QueryResult
    from tests.support.postgres import PostgresCluster

pytestmark = pytest.mark.server


class Setup(NamedTuple):
    """An open store with one task, the proxy before its server, and the statements sent."""

    store: PostgresStore
    clock: FakeClock
    proxy: BlackHole
    statements: list[str]

    def cost_of(self, call: Callable[[], object]) -> tuple[int, int]:
        """Return how many round trips a call takes, and how many statements it sends."""
        before = self.proxy.round_trips
        self.statements.clear()
        call()
        return self.proxy.round_trips - before, len(self.statements)


@pytest.fixture
def setup(postgres_cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    """Return a store whose connection is open and whose first tick was claimed and finished."""
    postgres_cluster.forget_applications()
    statements: list[str] = []
    execute = PostgresConnection.execute

    def record(
        connection: PostgresConnection, text: str, values: Sequence[Cell] = ()
    ) -> QueryResult:
        statements.append(text)
        return execute(connection, text, values)

    monkeypatch.setattr(PostgresConnection, "execute", record)
    clock = FakeClock()
    with BlackHole(postgres_cluster.port) as proxy:
        url = postgres_cluster.url(port=proxy.port)
        store = PostgresStore(url, clock, server_clock=clock.wall, opened={})
        store.open(this_member("inline", "digest", 30 * SECOND))
        store.sync({"work": build_definition("work", make_task(retries=0))})
        clock.forward(EVERY)
        store.finish([succeed(claim) for claim in store.claim_due(1).claims])
        clock.forward(EVERY)
        yield Setup(store, clock, proxy, statements)
        store.close()


def test_claim_reads_in_one_round_trip_and_writes_in_two(setup: Setup) -> None:
    """The write locks and compares in its first round trip, changes and commits in its second."""
    trips, _ = setup.cost_of(lambda: setup.store.claim_due(1))
    assert trips == 3


def test_claim_that_finds_nothing_is_one_statement(setup: Setup) -> None:
    """Rows and clock are one result."""
    setup.store.claim_due(1)
    assert setup.cost_of(lambda: setup.store.claim_due(1)) == (1, 1)


def test_final_finish_is_one_statement(setup: Setup) -> None:
    """A run that is not tried again is recorded without a transaction of several statements."""
    (claim,) = setup.store.claim_due(1).claims
    assert setup.cost_of(lambda: setup.store.finish([succeed(claim)])) == (1, 1)
