"""Runs on Celery workers: each broker, store, kind of web worker and pool, each pair of them once.

The twelve combinations hold every pair of two of the four choices. Each is started, loses the
process that executes a run, then the broker for some seconds, and is stopped in order.
"""

from __future__ import annotations

import os
import time
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pulse.core.run import Outcome
from tests.support.broker_proxy import BrokerProxy, Mode
from tests.support.celery_site import EACH_SECOND, CelerySite, children_of
from tests.support.redis_servers import empty_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.postgres import PostgresCluster
    from tests.support.servers import Server

pytestmark = pytest.mark.server

COMBINATIONS = [
    ("rabbitmq", "sqlite", "gthread", "prefork"),
    ("rabbitmq", "postgres", "gevent", "gevent"),
    ("rabbitmq", "redis", "sync", "threads"),
    ("rabbitmq", "postgres", "gthread", "solo"),
    ("redis", "sqlite", "sync", "gevent"),
    ("redis", "postgres", "gthread", "threads"),
    ("redis", "redis", "gevent", "prefork"),
    ("redis", "sqlite", "gevent", "solo"),
    ("rabbitmq", "postgres", "sync", "prefork"),
    ("redis", "redis", "gthread", "gevent"),
    ("rabbitmq", "sqlite", "gevent", "threads"),
    ("redis", "redis", "sync", "solo"),
]
IN_GATE = [COMBINATIONS[n] for n in (0, 1, 5, 11)]
"""Each choice occurs in them; the others are left to `make test-celery`."""

FAULTS = [Mode.CUT, Mode.DEAF, Mode.STALL]
FAULT_S = 3.0
SOON_S = 10.0
RECORDED_WITHIN_S = 0.5
"""How soon a worker records the end of a run while the store answers."""

BEGUN_WITHIN_S = 0.5
"""So lately has a run begun that is then killed: it takes a second longer than that."""

WEB_PROCESSES = 2
LOST, BACK = "does not answer: nothing is posted until it does", "answers again after"
TASKS = {
    "now": EACH_SECOND,
    "naps": {"action": "nap?1.5", "interval": "2s", "timeout": "30s"},
}


def test_combinations_hold_every_pair() -> None:
    """Each value of a choice stands beside each value of every other choice."""
    columns = [*zip(*COMBINATIONS, strict=True)]
    for first in range(4):
        for second in range(first):
            pairs = set(zip(columns[first], columns[second], strict=True))
            assert len(pairs) == len(set(columns[first])) * len(set(columns[second]))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a file that does not exist yet."""
    return f"sqlite:///{tmp_path}/pulse.db"


@pytest.fixture
def postgres_url(postgres_cluster: PostgresCluster) -> str:
    """Return the URL of an empty database."""
    postgres_cluster.empty_applications()
    return postgres_cluster.url()


@pytest.fixture
def redis_url() -> str:
    """Return the URL of an empty Redis."""
    return empty_redis().url


@pytest.fixture
def vhost(request: pytest.FixtureRequest, combination: tuple[str, str, str, str]) -> str:
    """Return the URL of the broker."""
    return str(request.getfixturevalue(f"{combination[0]}_vhost"))


@pytest.fixture
def proxy(vhost: str) -> Iterator[BrokerProxy]:
    """Return what stands between the web processes and the broker."""
    with BrokerProxy(vhost) as made:
        yield made


@pytest.fixture
def site(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    combination: tuple[str, str, str, str],
    vhost: str,
    proxy: BrokerProxy,
) -> Iterator[CelerySite]:
    """Return the site of a combination; its processes end after the test."""
    _, store, web, pool = combination
    made = CelerySite(
        tmp_path,
        broker=vhost,
        web_broker=proxy.url,
        store=request.getfixturevalue(f"{store}_url"),
        web=web,
        pool=pool,
        tasks=TASKS,
    )
    with made.cleaned_up():
        yield made


@pytest.mark.parametrize(
    "combination",
    [
        one if one in IN_GATE else pytest.param(one, marks=pytest.mark.broker)
        for one in COMBINATIONS
    ],
    ids="-".join,
)
def test_runs_are_executed_once_while_processes_and_the_broker_fail(
    site: CelerySite, proxy: BrokerProxy, combination: tuple[str, str, str, str]
) -> None:
    """A killed process loses its run, nothing is lost with the broker, and a stop waits."""
    worker = site.start_worker()
    web = site.start_web()
    site.await_notes(3, task="now")
    killed = kill_in_a_run(site, worker)
    lost = site.await_run("naps", Outcome.ABANDONED, within=10)
    if killed.pid == worker.pid:
        worker = site.start_worker()
    begun = time.time()
    site.wait_for(
        lambda: [one for one in site.notes(task="naps") if one.at > begun], "the next run"
    )
    lose_broker(site, proxy, FAULTS[COMBINATIONS.index(combination) % len(FAULTS)])
    assert web.stop(SIGTERM) == 0
    assert worker.stop(SIGTERM, timeout=30) == 0
    assert site.twice() == []
    recorded = {run.id: run for run in site.runs() if run.outcome is not None}
    ended = {one.run for one in site.notes("end")}
    at_risk = killed.unrecorded(site)
    unended = {one.run for one in site.notes()} - ended
    assert {lost.id} <= unended <= {lost.id} | at_risk
    assert not [run for run in recorded.values() if run.outcome is Outcome.FAILED]
    assert {recorded[one].outcome for one in ended - at_risk} == {Outcome.SUCCEEDED}
    assert {recorded[one].outcome for one in at_risk} <= {Outcome.SUCCEEDED, Outcome.ABANDONED}


def lose_broker(site: CelerySite, proxy: BrokerProxy, mode: Mode) -> None:
    """Take the broker from the web processes; runs go on within ten seconds after its return."""
    proxy.switch(mode)
    lost = site.wait_for(lambda: site.log_text().count(LOST), "the loss of the broker", within=15)
    time.sleep(FAULT_S)
    proxy.switch(Mode.PASS)
    back = time.time()
    site.wait_for(
        lambda: [one for one in site.notes(task="now") if one.at > back], "a run", within=SOON_S
    )
    site.wait_for(lambda: site.log_text().count(BACK) >= lost, "the line about the return")
    assert site.log_text().count(LOST) <= WEB_PROCESSES


class Killed(NamedTuple):
    """A process that was killed, and when."""

    pid: int
    at: float

    def unrecorded(self, site: CelerySite) -> set[str]:
        """Return the runs that began or ended in the process so late that it may not have recorded.

        A pool of greenlets or threads has other runs beside the one in which it is killed.
        """
        notes = [*site.notes(), *site.notes("end")]
        since = self.at - RECORDED_WITHIN_S
        return {one.run for one in notes if one.pid == self.pid and one.at > since}


def kill_in_a_run(site: CelerySite, worker: Server) -> Killed:
    """Kill the process that executes a run of `naps`, soon after the run has begun."""

    def begun() -> list[int]:
        since = time.time() - BEGUN_WITHIN_S
        return [one.pid for one in site.notes(task="naps") if one.at > since]

    (pid, *_) = site.wait_for(begun, "a run of naps that has just begun")
    assert pid in [*children_of(worker), worker.pid]
    os.kill(pid, SIGKILL)
    return Killed(pid, time.time())
