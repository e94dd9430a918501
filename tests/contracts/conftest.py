"""Fixtures for tests of stores: child processes, fleets, servers and stepped processes."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.databases import Database
from tests.support.redis_servers import RedisServer
from tests.support.setups import setting_up
from tests.support.stepped import Stepped
from tests.support.stores import KINDS, open_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pulse.core.task import Task
    from pulse.store.base import Store
    from pulse.testing.clock import FakeClock
    from tests.contracts.suite.store_harness import Fleet
    from tests.support.children import RunChild
    from tests.support.postgres import PostgresCluster


@pytest.fixture
def run_child() -> Iterator[RunChild]:
    """Return a function that starts a Python process connected by pipes."""
    children = []

    def run(program: str, *words: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield run
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture(params=KINDS)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """Return an empty fleet on each kind of store, or on the kinds that a test names."""
    made = open_fleet(request, tmp_path)
    yield made
    made.close()


@pytest.fixture
def database(postgres_cluster: PostgresCluster) -> Iterator[Database]:
    """Return an empty PostgreSQL database that only this test uses."""
    made = Database(postgres_cluster)
    made.create()
    yield made
    made.drop()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Return an empty Redis server that only this test uses."""
    with setting_up():
        server = RedisServer(tmp_path, appendfsync="no")
    with server:
        yield server


@pytest.fixture
def begin() -> Iterator[Callable[..., Stepped]]:
    """Return a function that starts a process which the test steps by hand."""
    begun: list[Stepped] = []

    def begin(make: Callable[[FakeClock], Store], **tasks: Task) -> Stepped:
        begun.append(Stepped(make, tasks))
        return begun[-1]

    yield begin
    for process in begun:
        process.close()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """Return a function that returns the log lines of one level so far."""
    caplog.set_level(logging.INFO, "pulse")
    return lambda level: [one.getMessage() for one in caplog.records if one.levelno == level]
