"""Outages of the Redis server: nothing is dispatched meanwhile, and afterwards all tasks run."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from pulse import events
from pulse.clock import SECOND, SystemClock
from pulse.core.run import Outcome, Result
from pulse.core.task import build_definition
from pulse.engine.threads import ThreadEngine
from pulse.errors import StoreUnavailableError
from pulse.scheduler.loop import Scheduler, SchedulerParts
from pulse.store.process_identity import this_member
from pulse.store.redis.store import RedisStore
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import EVERY, make_task, succeed
from tests.support.redis_servers import READY_S, RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pulse.core.run import Claim

pytestmark = pytest.mark.server

PATIENCE = SECOND
TASKS = {"work": build_definition("work", make_task(run_at_start=True))}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a server of the test's own, which loses nothing that it acknowledged."""
    with RedisServer(tmp_path) as made:
        yield made


def open_store(url: str, *, syncs: bool = True) -> RedisStore:
    """Return an open store whose calls take a second at most."""
    store = RedisStore(url, SystemClock(), patience_us=PATIENCE, opened={})
    store.open(this_member("inline", "digest", 30 * SECOND))
    if syncs:
        store.sync(TASKS)
    return store


def elapsed(call: object) -> int:
    """Return how long a call took that the server does not answer."""
    began = SystemClock().boot()
    with pytest.raises(StoreUnavailableError):
        call()  # type: ignore[operator] # any call
    return SystemClock().boot() - began


def test_error_of_an_unreachable_server_states_its_address(server: RedisServer) -> None:
    """The store can be opened as soon as the server runs."""
    server.kill()
    with pytest.raises(StoreUnavailableError, match=server.url):
        open_store(server.url)
    server.start()
    store = open_store(server.url)
    assert len(store.claim_due(10).claims) == 1
    store.close()


def test_call_to_a_silent_server_ends_within_the_time_limit() -> None:
    """The server accepts the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"redis://127.0.0.1:{hole.getsockname()[1]}/0"
        assert elapsed(lambda: open_store(url)) < 2 * PATIENCE


def test_call_to_a_paused_server_ends_in_time_and_later_calls_succeed(server: RedisServer) -> None:
    """The server executes the call when it continues."""
    store = open_store(server.url)
    server.pause()
    assert elapsed(lambda: store.claim_due(10)) < 2 * PATIENCE
    server.resume()
    assert [row.name for row in store.tasks()] == ["work"]
    store.close()


def test_call_after_a_failure_probes_the_server_first(server: RedisServer) -> None:
    """It ends after the short time limit of the probe, and the next call tries again."""
    store = open_store(f"{server.url}?socket_timeout=2")
    server.pause()
    assert elapsed(store.tasks) >= 2 * SECOND
    assert elapsed(store.tasks) < SECOND
    server.resume()
    assert [row.name for row in store.tasks()] == ["work"]
    store.close()


def test_claim_whose_reply_was_lost_is_dispatched_by_no_process(server: RedisServer) -> None:
    """The run stays unfinished until its lease ends; it is not claimed again."""
    store = open_store(server.url)
    (claim,) = store.claim_due(10).claims
    (run,) = store.runs()
    assert (run.holder, run.outcome) == (claim.run.holder, None)
    assert not store.claim_due(10).claims
    store.close()


def test_acknowledged_writes_outlive_a_crash(server: RedisServer) -> None:
    """Claims, results and cursors are kept after a kill -9, and leases continue."""
    store = open_store(server.url)
    (claim,) = store.claim_due(10).claims
    rows = store.tasks()
    server.kill()
    with pytest.raises(StoreUnavailableError):
        store.heartbeat()
    server.start()
    assert store.tasks() == rows
    assert store.renew([claim]) == [True]
    assert [one.recorded for one in store.finish([succeed(claim)])] == [True]
    store.close()


def test_result_during_an_outage_is_recorded_afterwards(server: RedisServer) -> None:
    """Nothing is lost while the lease is valid."""
    store = open_store(server.url)
    (claim,) = store.claim_due(10).claims
    server.stop()
    with pytest.raises(StoreUnavailableError):
        store.finish([succeed(claim)])
    server.start()
    store.finish([succeed(claim)])
    assert [run.outcome for run in store.runs()] == [Outcome.SUCCEEDED]
    store.close()


def test_no_tick_is_skipped_for_a_run_that_finished_in_the_outage(server: RedisServer) -> None:
    """The tick waits until the holder has recorded its result, or a second has passed."""
    clock = FakeClock()
    holder, other = (
        RedisStore(server.url, clock, patience_us=PATIENCE, stand_in=clock, opened={})
        for _ in range(2)
    )
    for store in (holder, other):
        store.open(this_member("inline", "digest", 30 * SECOND))
        store.sync({"work": build_definition("work", make_task())})
    clock.forward(EVERY)
    (claim,) = holder.claim_due(1).claims
    server.stop()
    with pytest.raises(StoreUnavailableError):
        other.claim_due(1)
    clock.forward(EVERY)
    server.start()
    assert (list(other.claim_due(1).not_run), len(other.runs())) == ([], 1)
    holder.finish([succeed(claim)])
    assert [one.run.fire_time for one in other.claim_due(1).claims] == [clock.wall()]
    for store in (holder, other):
        store.close()


def test_store_can_be_closed_while_the_server_is_down(server: RedisServer) -> None:
    """Other processes find that this process is gone."""
    store = open_store(server.url)
    server.kill()
    store.close()
    with pytest.raises(StoreUnavailableError, match="not open"):
        store.tasks()


def test_loop_logs_each_reason_of_an_outage_once_and_continues_after_it(
    server: RedisServer,
) -> None:
    """One line reports its end, and tasks run again. A server that starts gives other reasons."""
    ran = threading.Semaphore(0)
    bus = events.EventBus()
    reasons: list[str] = []
    ends: list[int] = []
    bus.subscribe(events.StoreUnavailable, lambda event: reasons.append(event.error))
    bus.subscribe(events.StoreRecovered, lambda _event: ends.append(len(reasons)))
    scheduler = make_scheduler(server.url, bus, ran)
    scheduler.start()
    assert ran.acquire(timeout=READY_S)
    server.kill()
    wait_until_lost(reasons)
    while ran.acquire(blocking=False):
        pass
    server.start()
    assert ran.acquire(timeout=READY_S)
    scheduler.stop(SECOND)
    assert reasons
    assert len(reasons) == len(set(reasons))
    assert ends == [len(reasons)]


def wait_until_lost(reasons: list[str]) -> None:
    """Wait until the loop has noticed the outage."""
    pause, end = threading.Event(), SystemClock().boot() + round(READY_S * SECOND)
    while not reasons and SystemClock().boot() < end:
        pause.wait(0.01)


def make_scheduler(url: str, bus: events.EventBus, ran: threading.Semaphore) -> Scheduler:
    """Return a scheduler with one task that is due ten times a second."""
    clock = SystemClock()

    def perform(claim: Claim) -> Result:
        ran.release()
        return Result(Outcome.SUCCEEDED, claim.run.fire_time, 1)

    parts = SchedulerParts(
        definitions={"work": build_definition("work", make_task(interval=0.1))},
        member=this_member("threading", "digest", 30 * SECOND),
        store=RedisStore(url, clock, patience_us=PATIENCE, opened={}),
        engine=ThreadEngine(clock),
        bus=bus,
        clock=clock,
        perform=perform,
        concurrency=2,
    )
    return Scheduler(parts)
