"""Posted runs and workers on a storage that loses data, or has been replaced."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.core.run import QUEUE_HOLDER, Outcome
from pulse.errors import StoreUnavailableError
from pulse.store.redis.backend import prefix_of
from pulse.store.redis.client import RedisClient
from pulse.store.sqlite.schema import prefix_of as tables_of
from tests.contracts.suite.store_harness import EVERY, WAIT_S, Fleet, holders, make_task
from tests.support.redis_keys import Keys
from tests.support.setups import require
from tests.support.stores import REDIS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pulse.core.run import Claim
    from tests.contracts.suite.store_harness import Process
    from tests.support.redis_servers import RedisServer

LONG = {"work": make_task(interval=3_600)}


@pytest.fixture
def keys(redis: RedisServer) -> Keys:
    """Return the keys of a server of the test's own."""
    return Keys(redis)


@pytest.fixture
def shop(keys: Keys) -> Iterator[Fleet]:
    """Return an empty fleet on the server whose keys a test loses."""
    made = Fleet(lambda clock, **_: keys.make(clock))
    yield made
    made.close()


def post_one(fleet: Fleet) -> tuple[Process, Process, Claim]:
    """Return a process that has posted the run of a tick, a worker, and the claim."""
    process, worker = fleet.join(LONG), fleet.join_as_worker()
    fleet.clock.forward(3_590)
    fleet.wait(EVERY, process, worker)
    claim = process.claim_one()
    require(process.post(claim) == [True], "a run that is posted")
    return process, worker, claim


# A worker that is not listed any more -----------------------------------------------------


@pytest.mark.server
def test_worker_is_listed_again_after_all_keys_were_lost(keys: Keys, shop: Fleet) -> None:
    """It stored nothing that would be missing, and declares no task."""
    process, worker = shop.join(LONG), shop.join_as_worker()
    keys.lose("all keys")
    worker.store.heartbeat()
    assert holders(worker.store) == [worker.member.holder]
    assert worker.store.tasks() == []
    with pytest.raises(StoreUnavailableError, match="are stored again as new ones"):
        process.store.heartbeat()
    assert [state.name for state in worker.store.tasks()] == ["work"]


@pytest.mark.parametrize("fleet", ["sqlite"], indirect=True)
def test_worker_uses_the_file_that_replaces_a_lost_one(fleet: Fleet, tmp_path: Path) -> None:
    """The error that reaches it is the only word of what became of the old one."""
    process, worker = fleet.join(LONG), fleet.join_as_worker()
    for name in tmp_path.glob("pulse.db*"):
        name.unlink()
    with pytest.raises(StoreUnavailableError, match="was deleted or replaced"):
        worker.store.heartbeat()
    worker.store.heartbeat()
    assert holders(worker.store) == [worker.member.holder]
    assert worker.store.tasks() == []
    with pytest.raises(StoreUnavailableError):
        process.store.heartbeat()


@pytest.mark.parametrize("fleet", ["sqlite"], indirect=True)
def test_worker_is_listed_again_after_the_rows_were_lost(fleet: Fleet, tmp_path: Path) -> None:
    """Of all processes; its own heartbeat changes nothing else."""
    process, worker = fleet.join(LONG), fleet.join_as_worker()
    with sqlite3.connect(tmp_path / "pulse.db") as raw:
        raw.execute(f"DELETE FROM {tables_of('')}members")  # noqa: S608 - a name of this test
    raw.close()
    worker.store.heartbeat()
    assert holders(process.store) == [worker.member.holder]
    assert [state.name for state in worker.store.tasks()] == ["work"]


# The keys of posted runs ------------------------------------------------------------------


def waits(fleet: Fleet) -> dict[bytes, bytes]:
    """Return the hash of posted runs and how long they wait."""
    link = RedisClient(fleet.url, prefix=prefix_of(""), patience_us=SECOND)
    link.open()
    found: dict[bytes, bytes] = link.command("HGETALL", link.key("waits"))
    link.close()
    return found


def stop(process: Process, claim: Claim) -> object:
    """End a posted run."""
    return process.store.stop(claim.run.id)


ENDS: dict[str, Callable[[Fleet, Process, Process, Claim], object]] = {
    "taken": lambda _fleet, _process, worker, claim: worker.take(claim),
    "stopped": lambda _fleet, process, _worker, claim: stop(process, claim),
    "missed": lambda fleet, process, _worker, _claim: fleet.wait(WAIT_S + 10, process),
}


@pytest.mark.parametrize("fleet", [REDIS], indirect=True)
@pytest.mark.parametrize("end", ENDS)
def test_wait_of_a_run_is_kept_while_it_is_posted(fleet: Fleet, end: str) -> None:
    """Nothing remains of it afterwards."""
    process, worker, claim = post_one(fleet)
    assert waits(fleet) == {claim.run.id.encode(): str(WAIT_S * SECOND).encode()}
    require(ENDS[end](fleet, process, worker, claim), "an end of the wait")
    assert waits(fleet) == {}


def repair(keys: Keys, process: Process) -> None:
    """Let a heartbeat find that a key is missing, after which all indexes are made again."""
    keys.lose("places")
    with pytest.raises(StoreUnavailableError, match="keys were lost"):
        process.store.heartbeat()


@pytest.mark.server
@pytest.mark.parametrize("key", ["leases", "waits", "members"])
def test_posted_run_outlives_a_repair_of_the_keys(keys: Keys, shop: Fleet, key: str) -> None:
    """It is taken, or missed in the end, whichever index was lost."""
    process, worker, claim = post_one(shop)
    keys.lose(key)
    repair(keys, process)
    run = process.store.run(claim.run.id)
    require(run is not None and run.holder == QUEUE_HOLDER, "a posted run")
    assert not keys.lacks("waits")
    beats = shop.wait(WAIT_S + 10, process, worker)
    assert [run.id for beat in beats for run in beat.missed] == [claim.run.id]
    assert worker.take(claim) is None
    assert keys.lacks("waits")


@pytest.mark.server
def test_repair_keeps_no_wait_of_a_run_that_was_taken(keys: Keys, shop: Fleet) -> None:
    """The lease of its worker counts, however long the run might have waited."""
    process, worker, claim = post_one(shop)
    taken = worker.take(claim)
    require(taken, "a run that is taken")
    keys.set_field("waits", claim.run.id, str(3_600 * SECOND))
    repair(keys, process)
    assert keys.lacks("waits")
    beats = shop.wait(60, process)
    assert [run.outcome for beat in beats for run in beat.abandoned] == [Outcome.ABANDONED]
