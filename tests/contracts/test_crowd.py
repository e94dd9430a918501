"""Twenty-four processes that use one store at once, on each store that processes share."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.core.run import Trigger
from pulse.store.steering import Pause
from tests.contracts.suite.store_harness import succeed
from tests.support.crowd import ADDED, LIMITS, declared, most_at_once, open_store, read_lines
from tests.support.redis_servers import empty_redis
from tests.support.stores import SHARED

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.store.base import Store

PROCESSES = 24
SEED = 1
SECONDS = 4


@pytest.fixture(params=SHARED)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'pulse.db'}"
    if request.param == "redis":
        return empty_redis().url
    cluster = request.getfixturevalue("postgres_cluster")
    cluster.empty_applications()
    address: str = cluster.url()
    return address


def drain(store: Store) -> None:
    """Claim and finish what is pending, until nothing is, or ten seconds are over."""
    end = SystemClock().boot() + 10 * SECOND
    while SystemClock().boot() < end and any(row.unfinished for row in store.tasks()):
        store.heartbeat()
        store.finish([succeed(claim) for claim in store.claim_due(100).claims])


def test_many_processes_agree(url: str, tmp_path: Path) -> None:
    """No tick or attempt runs twice, no task exceeds its limit, counters equal the runs."""
    words = [url, str(tmp_path), *map(str, (PROCESSES, SEED, SECONDS))]
    ended = subprocess.run([sys.executable, "-m", "tests.support.crowd", *words], check=False)
    lines = list(read_lines(tmp_path))
    assert [line.error for line in lines if line.error] == []
    assert ended.returncode == 0

    attempts = Counter((line.id, line.attempt) for line in lines)
    scheduled = [line for line in lines if line.trigger == Trigger.SCHEDULE.value]
    ticks = Counter((line.task, line.partition, line.fire_time, line.attempt) for line in scheduled)
    assert [found for found, times in (attempts + ticks).items() if times > 1] == []
    assert len(lines) > PROCESSES
    assert all(line.recorded for line in lines)
    limits = LIMITS | dict.fromkeys(ADDED, 1)
    most = most_at_once(lines)
    assert {row: number for row, number in most.items() if number > limits[row[0]]} == {}

    store = open_store(url)
    store.sync(declared())
    runs = store.runs(limit=100_000)
    unfinished = Counter((run.task, run.partition) for run in runs if run.outcome is None)
    rows = {(row.name, row.partition): row.unfinished for row in store.tasks()}
    assert rows == {row: unfinished[row] for row in rows}
    assert not set(unfinished) - set(rows)
    for name in {row.name for row in store.tasks()}:
        store.pause(name, Pause())
    drain(store)
    runs = store.runs(limit=100_000)
    assert [run for run in runs if run.outcome is None] == []
    assert {line.id for line in lines} <= {run.id for run in runs}
    store.close()
