"""Sites under gunicorn while their store is down, silent or corrupt, and run-time tasks."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.evidence_site import EACH_SECOND, Site, fire_time_of
from tests.support.postgres import PostgresCluster
from tests.support.store_outages import Moved, OutageStore, open_outage_store, read_history
from tests.support.variants import long_variant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.evidence_site import Visits
    from tests.support.probe_log import Note

pytestmark = pytest.mark.server

STORES = ["postgres-stopped", "redis-stopped", "sqlite-moved"]
WAYS = [*STORES, long_variant("postgres-silent"), long_variant("redis-silent")]
BOTH = {
    "postgres": ["gevent", "gthread"],
    "redis": ["gevent", "sync"],
    "sqlite": ["gevent", "sync"],
}
"""Masters of two kinds share each store."""

CLASSES = ["gthread", "gevent"]
LOST = "the store does not answer"
SOON_S = 1.0
"""How long after its return a store has to be in use again, and what is due to be requested."""

CLOCKS_S = 0.01
"""By how much the wall clock may be slewed, against the one that tells how long a call took."""

PAGE_S = 1.0
"""How long a page may take on a busy machine; a call to a store that is away may last 5 s."""


@pytest.fixture(scope="module")
def private_cluster() -> Iterator[PostgresCluster]:
    """Return a PostgreSQL server that only these tests may stop."""
    cluster = PostgresCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def outage_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OutageStore]:
    """Return the store that the parameter names."""

    def cluster() -> PostgresCluster:
        found: PostgresCluster = request.getfixturevalue("private_cluster")
        return found

    with open_outage_store(request.param, tmp_path, cluster) as made:
        yield made


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, outage_store: OutageStore) -> Site:
    """Return a site of two masters, whose task lets its runs overlap.

    A claim whose answer is lost with the store counts as running for a lease.
    """
    store = request.node.callspec.params["outage_store"].partition("-")[0]
    tasks = {"now": EACH_SECOND | {"overlap": "allow", "max_running": "9"}}
    return Site(tmp_path, BOTH[store], store=outage_store.word, tasks=tasks)


def by_pid(notes: list[Note]) -> Counter[int]:
    """Return how many notes each process has written."""
    return Counter(note.pid for note in notes)


def assert_over(site: Site, returned: float) -> None:
    """Assert that each worker has recovered soon, logged the outage once, and runs due tasks."""
    back = site.notes("back")
    assert by_pid(site.notes("lost")) == by_pid(back)
    assert sorted(by_pid(back).values()) == [1] * site.workers
    assert site.log_text().count(LOST) == site.workers
    assert max(note.at for note in back) - returned <= SOON_S
    assert site.await_run(since=returned).at - returned <= SOON_S


def assert_served(visits: Visits) -> None:
    """Assert that every page was answered quickly."""
    assert visits.statuses == {200}
    assert visits.longest_s <= PAGE_S


@pytest.mark.parametrize("outage_store", STORES, indirect=True)
def test_site_without_a_store_at_the_start_joins_it_later(
    site: Site, outage_store: OutageStore
) -> None:
    """The site serves meanwhile, each worker logs it once, and ticks start within a second."""
    outage_store.leave()
    with site.serving():
        site.await_all("lost")
        with site.visited() as visits:
            returned = outage_store.come_back()
            site.await_all("start")
            site.await_all("back")
        assert_over(site, returned)
        assert_served(visits)


@pytest.mark.parametrize("outage_store", WAYS, indirect=True)
def test_outage_of_the_store_costs_only_ticks(site: Site, outage_store: OutageStore) -> None:
    """The site serves meanwhile, and within a second of the return each tick runs once again."""
    with site.serving():
        site.await_all("start")
        site.await_run()
        with site.visited() as visits:
            outage_store.leave()
            site.await_all("lost")
            site.await_due()
            returned = outage_store.come_back()
            site.await_all("back")
        assert_over(site, returned)
        assert_served(visits)
    assert site.twice() == []


@pytest.mark.parametrize("outage_store", STORES, indirect=True)
def test_run_that_finishes_during_an_outage_is_recorded_afterwards(
    tmp_path: Path, outage_store: OutageStore
) -> None:
    """While its lease is valid, it is recorded as succeeded, with its real end."""
    nap = {"action": "nap", "interval": "1h", "run_at_start": "true"}
    site = Site(
        tmp_path,
        ["gevent"],
        store=outage_store.word,
        workers=1,
        tasks={"nap": nap},
        environ={"NAP": "1"},
    )
    with site.serving():
        site.await_notes("begin", of=1)
        outage_store.leave()
        (end,) = site.await_notes("end", of=1)
        site.await_notes("lost", of=1)
        returned = outage_store.come_back()
        site.await_notes("back", of=1)
        (run,) = read_history(outage_store.word)
    assert run.outcome == "succeeded"
    assert run.started_at is not None
    assert run.took_us is not None
    assert end.at <= (run.started_at + run.took_us) / 1e6 + CLOCKS_S
    assert (run.started_at + run.took_us) / 1e6 < returned


@pytest.mark.parametrize("worker_class", CLASSES)
def test_corrupt_store_is_replaced(tmp_path: Path, worker_class: str) -> None:
    """One worker moves it aside and logs the path; all use the new one, each tick once."""
    file = Moved(tmp_path)
    site = Site(tmp_path, [worker_class], store=file.word, workers=3)
    with site.serving():
        site.await_all("start")
        site.await_run()
        with site.visited() as visits:
            for path in (file.path, file.path.with_name("pulse.db-wal")):
                with path.open("r+b") as spoilt:
                    spoilt.write(b"\xa5" * path.stat().st_size)
            lost = site.await_notes("lost", of=1)[0].at
            assert site.await_run(since=lost).at - lost <= SOON_S
            site.await_run()
        assert_served(visits)
        assert site.log_text().count("was moved to") == 1
    assert site.twice() == []


def test_runtime_task_of_one_worker_runs_until_another_removes_it(tmp_path: Path) -> None:
    """It runs within a second of its first fire time, and survives the restart of all."""
    site = Site(tmp_path, ["gthread"], store=Moved(tmp_path).word, workers=3)
    with site.serving():
        site.await_run()
        assert site.get("/add") == 200
        first = site.await_run("added")
        assert first.at - fire_time_of(first) <= SOON_S
    with site.serving():
        site.await_run("added")
        assert site.get("/remove") == 200
        removed = time.time()
        site.await_run()
        site.await_run()
        site.await_run()
        late = site.runs_since(removed + 1, "added")
    assert late == []
