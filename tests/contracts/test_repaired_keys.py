"""Fleets whose keys in a Redis server are lost: what a repair of the indexes leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from pulse.errors import StoreUnavailableError
from tests.contracts.suite.store_harness import EVERY, Fleet, make_task
from tests.support.redis_keys import Keys
from tests.support.setups import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.core.run import Claim
    from tests.contracts.suite.store_harness import Process
    from tests.support.redis_servers import RedisServer

pytestmark = pytest.mark.server


@pytest.fixture
def keys(redis: RedisServer) -> Keys:
    """Return the keys of a server of the test's own."""
    return Keys(redis)


@pytest.fixture
def hosts(keys: Keys) -> Iterator[Fleet]:
    """Return an empty fleet on the server whose keys a test loses."""
    made = Fleet(lambda clock, **_: keys.make(clock))
    yield made
    made.close()


def claim_run(process: Process) -> Claim:
    """Claim the only due run with the only free slot of a process."""
    (claim,) = process.claim(1).claims
    return claim


def finished_ticks(process: Process, fleet: Fleet, *, ticks: int) -> int:
    """Return how many runs a process with one slot has claimed and finished in some intervals."""
    finished = 0
    for _ in range(ticks):
        fleet.clock.forward(EVERY)
        process.store.heartbeat()
        for claim in process.claim(1).claims:
            finished += process.finish(claim)
    return finished


def test_host_with_a_pending_run_ticks_on_after_another_host_has_repaired_the_keys(
    keys: Keys, hosts: Fleet
) -> None:
    """The run is in the index once, so that nothing remains of it when it has ended."""
    alpha = hosts.join({"work": make_task(scope="host")}, host="alpha")
    beta = hosts.join({"work": make_task(scope="host")}, host="beta")
    for process in (alpha, beta):  # the second run gets a history number that is not its instant
        require(process.store.trigger("work"), "a pending run of the host")
    for key in ("rows", "places", "history", "history:work"):
        keys.lose(key)
    with pytest.raises(StoreUnavailableError, match="keys were lost"):
        alpha.store.heartbeat()
    beta.store.heartbeat()
    require(beta.finish(claim_run(beta)), "a manual run that ends")
    is_empty = keys.lacks("unheld:beta")
    assert (is_empty, finished_ticks(beta, hosts, ticks=6)) == (True, 6)


@pytest.mark.parametrize("is_lost", [False, True], ids=["finished", "lost"])
def test_member_of_an_index_without_a_pending_run_takes_no_slot(
    keys: Keys, hosts: Fleet, *, is_lost: bool
) -> None:
    """The next claim removes it: it names a run that has ended, or whose record was lost."""
    process = hosts.join({"work": make_task()})
    require(process.store.trigger("work"), "a pending run")
    (run,) = process.store.runs()
    (member,) = keys.members("unheld:")
    require(process.finish(claim_run(process)), "a manual run that ends")
    keys.add_member("unheld:", member.replace(run.id, "0" * len(run.id)) if is_lost else member)
    assert finished_ticks(process, hosts, ticks=6) == 6
    assert keys.lacks("unheld:")


def test_lost_key_is_reported_when_the_sync_after_the_repair_fails(
    keys: Keys, hosts: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next heartbeat finds nothing missing."""
    process = hosts.join({"work": make_task()})
    keys.lose("places")
    outage = StoreUnavailableError("the server is away")
    with monkeypatch.context() as patch:
        patch.setattr("pulse.store.shared.store.sync_rows", Mock(side_effect=outage))
        with pytest.raises(StoreUnavailableError, match=r"keys were lost: .*; the server is away"):
            process.store.heartbeat()
    assert not process.store.heartbeat().abandoned
