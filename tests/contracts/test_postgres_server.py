"""PostgreSQL: schemas, versions, its clock, poolers, outages, and processes that stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND, SystemClock
from pulse.core.run import RECORDED, CompletedRun, Outcome, Result
from pulse.core.task import build_definition
from pulse.errors import StoreSchemaError, StoreUnavailableError
from pulse.store.backoff import PROBE_TIMEOUT
from pulse.store.base import StoreOptions
from pulse.store.postgres.arrays import literal, plain
from pulse.store.postgres.database import PostgresDatabase
from pulse.store.postgres.schema import MIGRATIONS, Migrations, schema_of
from pulse.store.postgres.store import PostgresStore
from pulse.store.process_identity import this_member
from pulse.store.shared.backend import Transaction
from pulse.testing.clock import NOON, FakeClock
from tests.contracts.suite.store_harness import EVERY, make_task, succeed
from tests.support.black_hole import BlackHole
from tests.support.forks import in_child, status_of
from tests.support.postgres import Bouncer, PostgresCluster
from tests.support.setups import error_of
from tests.support.transactions import fetch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.core.run import Claim
    from pulse.core.task import TaskDefinition
    from pulse.store.sql.database import Connection

pytestmark = pytest.mark.server

TASKS = {"work": build_definition("work", make_task())}
AT_START = {"work": build_definition("work", make_task(run_at_start=True))}
LIMIT = 2 * SECOND
LOCK_TASK = "SELECT key FROM @tasks WHERE task = ? FOR UPDATE"
LOOK = "SELECT key FROM @tasks FOR UPDATE"
STOP_IN_A_WRITE = """
import os, signal, sys
from pulse.clock import SECOND
from pulse.store.postgres.database import PostgresDatabase
from pulse.store.shared.backend import Transaction

def stop(connection):
    list(connection.execute("SELECT key FROM @tasks FOR UPDATE"))
    print("stops", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)

server = PostgresDatabase(sys.argv[1], space="", limit_us=5 * SECOND, server_clock=None)
server.open()
server.run(Transaction[sys.argv[2]], stop)
"""


@pytest.fixture(autouse=True)
def _empty(postgres_cluster: PostgresCluster) -> Iterator[None]:
    postgres_cluster.forget_applications()
    yield
    postgres_cluster.forget_applications()  # some tests leave a layout of another version


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still."""
    return FakeClock()


def open_store(
    url: str, clock: FakeClock | None = None, *, name: str = "", ladder: Migrations = MIGRATIONS
) -> PostgresStore:
    """Return an open store; on a fake clock the server's is the same, else it is its own."""
    store = PostgresStore(
        url,
        clock or SystemClock(),
        StoreOptions(name=name),
        limit_us=LIMIT,
        server_clock=None if clock is None else clock.wall,
        ladder=ladder,
        opened={},
    )
    store.open(this_member("inline", "digest", 30 * SECOND))
    return store


def claim_one(store: PostgresStore) -> Claim:
    """Claim what is due, which is one run."""
    (claim,) = store.claim_due(9).claims
    return claim


def test_applications_of_one_database_do_not_see_each_other(
    postgres_cluster: PostgresCluster, clock: FakeClock
) -> None:
    """Each name has a schema of its own."""
    shop, blog = (open_store(postgres_cluster.url(), clock, name=name) for name in ("shop", "blog"))
    shop.sync(TASKS)
    assert [row.name for row in shop.tasks()] == ["work"]
    assert blog.tasks() == []
    assert schema_of("shop") != schema_of("Shop")
    for store in (shop, blog):
        store.close()


def test_newer_layout_is_refused(postgres_cluster: PostgresCluster, clock: FakeClock) -> None:
    """The error says which release has written it, and what to do."""
    open_store(postgres_cluster.url(), clock).close()
    postgres_cluster.change("UPDATE @layout SET version = 99")
    with pytest.raises(StoreSchemaError, match="got 99, which a newer release"):
        open_store(postgres_cluster.url(), clock)


def test_older_layout_without_a_migration_is_refused(
    postgres_cluster: PostgresCluster, clock: FakeClock
) -> None:
    """Nothing is changed in it."""
    open_store(postgres_cluster.url(), clock).close()
    postgres_cluster.change("UPDATE @layout SET version = 0")
    with pytest.raises(StoreSchemaError, match="got 0, which an older release"):
        open_store(postgres_cluster.url(), clock)


def test_older_layout_is_migrated(postgres_cluster: PostgresCluster, clock: FakeClock) -> None:
    """Each step runs once, and the rows stay."""
    store = open_store(postgres_cluster.url(), clock)
    store.sync(TASKS)
    store.close()
    postgres_cluster.change("ALTER TABLE @tasks DROP COLUMN skip_id")
    postgres_cluster.change("UPDATE @layout SET version = 0")
    ladder = Migrations(1, (), {0: ("ALTER TABLE @tasks ADD COLUMN skip_id text",)})
    for _ in range(2):
        store = open_store(postgres_cluster.url(), clock, ladder=ladder)
        assert [row.name for row in store.tasks()] == ["work"]
        store.close()


def test_processes_that_start_together_create_the_tables_once(
    postgres_cluster: PostgresCluster, clock: FakeClock
) -> None:
    """All but one find them created."""
    opened: list[PostgresStore] = []

    def start() -> None:
        opened.append(open_store(postgres_cluster.url(), clock))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 6
    for store in opened:
        store.close()


def test_dropped_schema_is_created_again(
    postgres_cluster: PostgresCluster, clock: FakeClock
) -> None:
    """The call that finds it dropped is refused, and the process continues in the new one."""
    store = open_store(postgres_cluster.url(), clock)
    store.sync(TASKS)
    postgres_cluster.forget_applications()
    with pytest.raises(StoreUnavailableError, match="came back without its data"):
        store.claim_due(1)
    assert [row.name for row in store.tasks()] == ["work"]
    store.close()


def test_recorded_tick_is_not_run_again(
    postgres_cluster: PostgresCluster, clock: FakeClock
) -> None:
    """A task row in an older state, as after a restore, does not repeat a run."""
    store = open_store(postgres_cluster.url(), clock)
    store.sync(TASKS)
    clock.forward(EVERY)
    claim = claim_one(store)
    store.finish([succeed(claim)])
    text = "UPDATE @tasks SET next_fire = %s, due_at = %s, floor = 0"
    postgres_cluster.change(text, claim.run.scheduled_for, claim.run.scheduled_for)
    assert not store.claim_due(1).claims
    assert [row.last_decided for row in store.tasks()] == [claim.run.scheduled_for]
    store.close()


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param({}, id="one place"),
        # A row of its own place that is due later must not end the look at the fleet's.
        pytest.param(
            {"cache": build_definition("cache", make_task(interval=3_600, scope="process"))},
            id="two places",
        ),
    ],
)
def test_own_tasks_are_found_after_any_number_of_other_tasks(
    postgres_cluster: PostgresCluster, clock: FakeClock, beside: dict[str, TaskDefinition]
) -> None:
    """Pages are read until one has a task of this process."""
    other, mine = (open_store(postgres_cluster.url(), clock) for _ in range(2))
    other.sync({f"t{number}": build_definition(f"t{number}", make_task()) for number in range(120)})
    clock.forward(1)
    mine.sync(TASKS | beside)
    clock.forward(EVERY)
    assert [claim.run.task for claim in mine.claim_due(1).claims] == ["work"]
    for store in (other, mine):
        store.close()


def test_deadlocked_write_is_repeated(postgres_cluster: PostgresCluster, clock: FakeClock) -> None:
    """The server rolls one of two writes back, and the caller does not notice."""
    store = open_store(postgres_cluster.url(), clock)
    store.sync({name: build_definition(name, make_task()) for name in ("a", "b")})
    both = threading.Barrier(2)
    attempts: list[str] = []

    def lock(first: str, second: str) -> None:
        def work(link: Connection) -> None:
            attempts.append(first)
            if len(attempts) > 2:
                both.abort()  # this one is done again: it meets nobody
            list(link.execute(LOCK_TASK, (first,)))
            with suppress(threading.BrokenBarrierError):
                both.wait(5)
            list(link.execute(LOCK_TASK, (second,)))

        server = PostgresDatabase(
            postgres_cluster.url(), space="", limit_us=10 * SECOND, server_clock=None
        )
        server.open()
        server.run(Transaction.WRITE, work)
        server.close()

    threads = [threading.Thread(target=lock, args=names) for names in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(attempts)) == ["a", "b"]
    assert len(attempts) == 3
    store.close()


def test_server_clock_decides_what_is_due(postgres_cluster: PostgresCluster) -> None:
    """Hosts whose clocks are years apart agree."""
    ahead = FakeClock()
    ahead.set_wall(NOON + timedelta(days=3_650))
    stores = []
    for local in (SystemClock(), ahead):
        store = PostgresStore(postgres_cluster.url(), local, opened={})
        store.open(this_member("inline", "digest", 30 * SECOND))
        store.sync(TASKS)
        stores.append(store)
    told = [store.claim_due(1).now for store in stores]
    assert 0 <= told[1] - told[0] < 30 * SECOND
    assert not any(store.claim_due(1).claims for store in stores)
    for store in stores:
        store.close()


def test_forked_child_does_not_use_connections_of_its_parent(
    postgres_cluster: PostgresCluster, clock: FakeClock
) -> None:
    """A call in a process that has not opened the store is refused."""
    store = open_store(postgres_cluster.url(), clock)

    def is_refused() -> bool:
        return isinstance(error_of(store.tasks), StoreUnavailableError)

    assert status_of(in_child(is_refused)) == 0
    store.close()


def test_message_that_postgres_cannot_store_is_replaced(
    postgres_cluster: PostgresCluster, clock: FakeClock
) -> None:
    """A NUL or a lone surrogate in a reply loses no result."""
    store = open_store(postgres_cluster.url(), clock)
    store.sync(TASKS)
    clock.forward(EVERY)
    claim = claim_one(store)
    result = Result(Outcome.FAILED, clock.wall(), 5, None, "a\0b\udcffc")
    assert store.finish([CompletedRun(claim, result)]) == [RECORDED]
    assert [run.message for run in store.runs()] == ["a\N{REPLACEMENT CHARACTER}b?c"]
    store.close()


def test_array_literal_is_read_as_the_same_values(postgres_cluster: PostgresCluster) -> None:
    """This holds for all texts and all bytes."""

    @given(st.lists(st.none() | st.text()), st.lists(st.none() | st.binary()))
    def holds(texts: list[str | None], parts: list[bytes | None]) -> None:
        ((found, others),) = raw.execute(
            "SELECT %s::text[], %s::bytea[]", [literal(texts), literal(parts)]
        )
        assert found == [None if text is None else plain(text) for text in texts]
        assert others == parts

    with postgres_cluster.connect() as raw:
        holds()


def test_store_works_behind_a_transaction_pooler(
    postgres_cluster: PostgresCluster, clock: FakeClock
) -> None:
    """Behind PgBouncer each transaction may get another session."""
    bouncer = Bouncer(postgres_cluster)
    url = postgres_cluster.url(port=bouncer.port)
    stores = [open_store(url, clock) for _ in range(3)]
    tasks = {
        f"t{number}": build_definition(f"t{number}", make_task(retries=1)) for number in range(40)
    }
    for store in stores:
        store.sync(tasks)
    clock.forward(EVERY)
    claims = [(store, claim) for store in stores for claim in store.claim_due(20).claims]
    assert sorted(claim.run.task for _, claim in claims) == sorted(tasks)
    for store, claim in claims:
        assert store.renew([claim]) == [True]
        failed = Result(Outcome.FAILED, clock.wall(), 5, 503, "busy")
        (became,) = store.finish([CompletedRun(claim, failed)])
        assert became.recorded
        store.heartbeat()
    assert stores[0].trigger("t1") is None
    for store in stores:
        store.close()
    bouncer.close()


@pytest.mark.parametrize("how", [Transaction.EXCLUSIVE, Transaction.WRITE])
def test_process_that_stops_in_a_write_does_not_block_others(
    postgres_cluster: PostgresCluster, clock: FakeClock, how: Transaction
) -> None:
    """Others skip its rows, and after two seconds the server ends its transaction."""
    store = open_store(postgres_cluster.url(), clock)
    store.sync(AT_START)
    child = subprocess.Popen(
        [sys.executable, "-c", STOP_IN_A_WRITE, postgres_cluster.url(), how.name],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"stops\n"
    began = SystemClock().boot()
    assert not store.claim_due(1).claims
    assert SystemClock().boot() - began < SECOND
    waiting = PostgresDatabase(
        postgres_cluster.url(), space="", limit_us=10 * SECOND, server_clock=None
    )
    waiting.open()
    waiting.run(Transaction.EXCLUSIVE, lambda link: list(link.execute(LOOK)))
    assert SystemClock().boot() - began < 5 * SECOND
    assert len(store.claim_due(1).claims) == 1
    waiting.close()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    store.close()


def test_process_that_stops_between_two_writes_holds_nothing(
    postgres_cluster: PostgresCluster, clock: FakeClock
) -> None:
    """What it does not read is sent with the end of the transaction, so nothing has begun."""
    store = open_store(postgres_cluster.url(), clock)
    store.sync(AT_START)
    script = STOP_IN_A_WRITE.replace(
        'list(connection.execute("SELECT key FROM @tasks FOR UPDATE"))',
        'connection.execute("UPDATE @tasks SET version = version")',
    )
    assert script != STOP_IN_A_WRITE
    child = subprocess.Popen(
        [sys.executable, "-c", script, postgres_cluster.url(), Transaction.WRITE.name],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"stops\n"
    assert len(store.claim_due(1).claims) == 1
    child.send_signal(signal.SIGKILL)
    child.communicate()
    store.close()


def test_silent_server_is_unavailable_in_time(
    postgres_cluster: PostgresCluster, clock: FakeClock
) -> None:
    """The first call waits for the limit, later ones for the probe only."""
    with BlackHole(postgres_cluster.port) as hole:
        store = open_store(postgres_cluster.url(port=hole.port), clock)
        store.sync(TASKS)
        hole.swallows = True
        for limit in (LIMIT + 2 * SECOND, SECOND, SECOND):
            began = SystemClock().boot()
            with pytest.raises(StoreUnavailableError, match="did not answer in time"):
                store.claim_due(1)
            assert SystemClock().boot() - began < limit
        hole.swallows = False
        clock.forward(EVERY)
        assert len(store.claim_due(1).claims) == 1
        store.close()


def test_slow_server_is_reached_again(postgres_cluster: PostgresCluster, clock: FakeClock) -> None:
    """A login may take longer than the silence that a probe allows."""
    open_store(postgres_cluster.url(), clock).close()
    with BlackHole(postgres_cluster.port, delay_s=0.12) as hole:
        server = PostgresDatabase(
            postgres_cluster.url(port=hole.port),
            space="",
            limit_us=5 * SECOND,
            server_clock=None,
        )
        server.open()
        with pytest.raises(StoreUnavailableError, match="division by zero"):
            fetch(server, "SELECT 1 / 0")
        began = SystemClock().boot()
        assert fetch(server, "SELECT 7") == [(7,)]
        assert SystemClock().boot() - began > PROBE_TIMEOUT
        server.close()


@pytest.mark.parametrize("looks", [True, False], ids=["at an answer", "at the end"])
def test_write_that_times_out_logs_nothing(
    postgres_cluster: PostgresCluster, caplog: pytest.LogCaptureFixture, *, looks: bool
) -> None:
    """The error gives the reason, and psycopg does not log that it could not leave its pipeline."""
    with BlackHole(postgres_cluster.port) as hole:

        def work(link: Connection) -> None:
            list(link.execute("SELECT 1"))
            hole.swallows = True
            answer = link.execute("SELECT 2")
            if looks:
                list(answer)

        server = PostgresDatabase(
            postgres_cluster.url(port=hole.port), space="", limit_us=SECOND, server_clock=None
        )
        server.open()
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            server.run(Transaction.WRITE, work)
        assert caplog.messages == []
        server.close()


def test_restarted_server_is_used_at_once(clock: FakeClock) -> None:
    """It is down at the start, and killed later; a due task waits for it."""
    cluster = PostgresCluster()
    try:
        cluster.stop()
        with pytest.raises(StoreUnavailableError, match=str(cluster.port)):
            open_store(cluster.url(), clock)
        cluster.start()
        store = open_store(cluster.url(), clock)
        store.sync(TASKS)
        clock.forward(EVERY)
        claim = claim_one(store)
        cluster.stop()
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                store.claim_due(1)
        with pytest.raises(StoreUnavailableError):
            store.finish([succeed(claim)])
        cluster.start()
        assert store.finish([succeed(claim)]) == [RECORDED]
        store.close()
    finally:
        cluster.close()
