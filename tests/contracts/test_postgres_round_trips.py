"""How often calls wait for the PostgreSQL server."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from pulse.clock import SECOND
from pulse.core.task import build_definition
from pulse.store.base import PostedRun, ReturnedRun
from pulse.store.postgres.connection import PostgresConnection
from pulse.store.postgres.schema import LOCK
from pulse.store.postgres.store import PostgresStore
from pulse.store.process_identity import this_member
from pulse.store.steering import Pause
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import EVERY, fail, make_task, succeed
from tests.support.black_hole import BlackHole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pulse.core.run import Claim
    from pulse.store.sql.database import Cell, QueryResult
    from tests.support.postgres import PostgresCluster

pytestmark = pytest.mark.server

DEFINITIONS = {
    "work": build_definition("work", make_task(retries=0)),
    "retried": build_definition("retried", make_task(retries=3)),
}


class Setup(NamedTuple):
    """An open store with two tasks, the proxy before its server, and the statements sent."""

    store: PostgresStore
    clock: FakeClock
    proxy: BlackHole
    statements: list[str]

    def trips_of(self, call: Callable[[], object]) -> int:
        """Return how many round trips a call takes."""
        return self.cost_of(call)[0]

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
        store.sync(DEFINITIONS)
        clock.forward(EVERY)
        store.finish([succeed(claim) for claim in store.claim_due(2).claims])
        clock.forward(EVERY)
        yield Setup(store, clock, proxy, statements)
        store.close()


def test_claim_reads_in_one_round_trip_and_writes_in_two(setup: Setup) -> None:
    """The write locks and compares in its first round trip, changes and commits in its second."""
    assert setup.trips_of(lambda: setup.store.claim_due(2)) == 3


def test_claim_that_finds_nothing_is_one_statement(setup: Setup) -> None:
    """Rows and clock are one result."""
    setup.store.claim_due(2)
    assert setup.cost_of(lambda: setup.store.claim_due(2)) == (1, 1)


def test_final_finish_is_one_statement(setup: Setup) -> None:
    """Runs that are not tried again are recorded without a transaction of several statements."""
    claims = setup.store.claim_due(2).claims
    assert setup.cost_of(lambda: setup.store.finish([succeed(one) for one in claims])) == (1, 1)


def test_renewal_is_one_statement(setup: Setup) -> None:
    """The leases of all runs of a process are renewed at once."""
    claims = setup.store.claim_due(2).claims
    assert setup.cost_of(lambda: setup.store.renew(claims)) == (1, 1)


def test_post_is_one_statement(setup: Setup) -> None:
    """However many runs a process posts at once."""
    posted = [PostedRun(one, SECOND, "pulse") for one in setup.store.claim_due(2).claims]
    assert setup.cost_of(lambda: setup.store.post(posted)) == (1, 1)


def test_take_is_one_statement(setup: Setup) -> None:
    """It compares both holders, and returns the run."""
    claim = setup.store.claim_due(2).claims[0]
    words = {"poster": claim.run.holder, "definition": claim.definition}
    taken: list[Claim | None] = []
    cost = setup.cost_of(lambda: taken.append(setup.store.take(claim.run.id, 1, **words)))
    assert (cost, taken[0] and taken[0].run) == ((1, 1), claim.run)


def test_return_of_a_claim_is_four_round_trips(setup: Setup) -> None:
    """As a finish with a retry; several claims are returned at once."""
    returned = [ReturnedRun(one, SECOND, "lost") for one in setup.store.claim_due(2).claims]
    assert setup.trips_of(lambda: setup.store.give_back(returned)) == 4


def test_finish_with_a_retry_is_four_round_trips(setup: Setup) -> None:
    """Row, facts about it, lock of the run, change: the locks are not left to a pipeline."""
    (claim,) = [one for one in setup.store.claim_due(2).claims if one.run.task == "retried"]
    assert setup.trips_of(lambda: setup.store.finish([fail(claim)])) == 4


def test_trigger_is_four_round_trips(setup: Setup) -> None:
    """The row is locked, its runs are counted, it is compared, and changed with the new run."""
    assert setup.trips_of(lambda: setup.store.trigger("work")) == 4


def test_pause_is_five_round_trips_and_its_end_six(setup: Setup) -> None:
    """Lock, rows, the record of the pause and the rows again, comparison, change.

    The end reads the pauses of the task first, to know when the first of them began.
    """
    assert setup.trips_of(lambda: setup.store.pause("work", Pause())) == 5
    assert setup.trips_of(lambda: setup.store.pause("work", None)) == 6


def test_sync_that_changes_nothing_is_eight_round_trips(setup: Setup) -> None:
    """Lock, clock, settings, processes, manifests, rows, schedule versions, and the commit."""
    assert setup.trips_of(lambda: setup.store.sync(DEFINITIONS)) == 8


def test_heartbeat_that_finds_nothing_is_one_round_trip(setup: Setup) -> None:
    """Processes, leases and the clock are read together."""
    setup.store.heartbeat()
    assert setup.trips_of(setup.store.heartbeat) == 1


def test_heartbeat_that_saves_is_eight_round_trips(setup: Setup) -> None:
    """It reads, saves, looks for tasks that are done, and deletes what is older than it is kept.

    Once in ten seconds, in one process of the fleet.
    """
    setup.store.heartbeat()
    setup.clock.forward(11 * SECOND)
    assert setup.trips_of(setup.store.heartbeat) == 8


def test_heartbeat_prunes_without_the_lock_of_syncs(setup: Setup) -> None:
    """Other processes may sync while one deletes old runs."""
    setup.store.heartbeat()
    setup.clock.forward(11 * SECOND)
    setup.cost_of(setup.store.heartbeat)
    assert sum(LOCK in str(one) for one in setup.statements) == 1
