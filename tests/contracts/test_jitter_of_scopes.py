"""Jitter of tasks with the scopes fleet, host and process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.store.base import StoreOptions
from pulse.store.postgres.store import PostgresStore
from pulse.store.redis.store import RedisStore
from pulse.store.sqlite.store import SqliteStore
from tests.contracts.suite.store_harness import Fleet, make_task
from tests.support.redis_servers import empty_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pulse.clock import Clock, Instant
    from pulse.store.base import Store
    from tests.contracts.suite.store_harness import Process
    from tests.support.postgres import PostgresCluster

HOSTS = ("alpha", "alpha", "beta")
SCHEDULES = {"interval": {"interval": 600}, "cron": {"interval": None, "cron": "*/10 * * * *"}}


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Fleet]:
    """Return a fleet that shares a file."""

    def make(clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
        path = tmp_path / "pulse.db"
        return SqliteStore(path, clock, StoreOptions(name=name, keep_runs=keep_runs), opened={})

    fleet = Fleet(make)
    yield fleet
    fleet.close()


@pytest.fixture
def postgres(postgres_cluster: PostgresCluster) -> Iterator[Fleet]:
    """Return a fleet that shares a database."""
    postgres_cluster.empty_applications()
    url = postgres_cluster.url()

    def make(clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
        return PostgresStore(
            url,
            clock,
            StoreOptions(name=name, keep_runs=keep_runs),
            server_clock=clock.wall,
            opened={},
        )

    fleet = Fleet(make)
    yield fleet
    fleet.close()


@pytest.fixture
def redis() -> Iterator[Fleet]:
    """Return a fleet that shares a Redis server."""
    url = empty_redis().url

    def make(clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
        return RedisStore(
            url, clock, StoreOptions(name=name, keep_runs=keep_runs), stand_in=clock, opened={}
        )

    fleet = Fleet(make)
    yield fleet
    fleet.close()


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.server),
        pytest.param("redis", marks=pytest.mark.server),
    ]
)
def fleet(request: pytest.FixtureRequest) -> Fleet:
    """Return a fleet of each kind of store."""
    found: Fleet = request.getfixturevalue(request.param)
    return found


def join(fleet: Fleet, *, scope: str, schedule: str) -> list[Process]:
    """Return two processes of one host and one of another, with one jittered task."""
    task = make_task(jitter=300, scope=scope, **SCHEDULES[schedule])
    return [fleet.join({"work": task}, host=host) for host in HOSTS]


def due_at(process: Process) -> Instant:
    """Return when the next tick of the only task of *process* is due."""
    due = process.claim().next_wakeup
    assert due is not None
    return due


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_processes_of_a_fleet_share_the_jitter_of_a_tick(fleet: Fleet, schedule: str) -> None:
    """Any process may run the tick, so there is one delay for all."""
    assert len({due_at(process) for process in join(fleet, scope="fleet", schedule=schedule)}) == 1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_processes_of_a_host_share_the_jitter_of_a_tick(fleet: Fleet, schedule: str) -> None:
    """With `scope = host` one of them runs it."""
    one, other, _ = join(fleet, scope="host", schedule=schedule)

    assert due_at(one) == due_at(other)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_jitter_differs_between_hosts_under_scope_host(fleet: Fleet, schedule: str) -> None:
    """The hosts do not all start the run at one instant."""
    one, _, elsewhere = join(fleet, scope="host", schedule=schedule)

    assert due_at(one) != due_at(elsewhere)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_jitter_differs_between_processes_under_scope_process(fleet: Fleet, schedule: str) -> None:
    """This holds for processes of one host and of several."""
    processes = join(fleet, scope="process", schedule=schedule)

    assert len({due_at(process) for process in processes}) == len(processes)
