"""Posts, takes and stops that meet: each is decided once, at whatever moment the other comes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from pulse.core.run import QUEUE_HOLDER, Outcome
from pulse.core.run_transitions import unclaim_run
from pulse.store.postgres.connection import PostgresConnection
from pulse.store.postgres.schema import schema_of
from pulse.store.redis.client import RedisClient
from pulse.store.sqlite.database import SqliteDatabase
from tests.contracts.suite.store_harness import EVERY, make_task
from tests.support.setups import require
from tests.support.stores import POSTGRES, REDIS, SHARED

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.core.run import Claim, Run
    from tests.contracts.suite.store_harness import Fleet, Process

    Interpose = Callable[[int, Callable[[], object]], None]

BOUND_S = 20.0
MOMENTS = range(4)
"""Before which call of the storage something happens; no post or take has so many calls."""
_BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

shared = pytest.mark.parametrize("fleet", SHARED, indirect=True)
overlapping = pytest.mark.parametrize("fleet", [POSTGRES, REDIS], indirect=True)


@pytest.fixture
def interpose(monkeypatch: pytest.MonkeyPatch) -> Interpose:
    """Return a function that lets something happen before one of the next calls of the storage.

    A call is a transaction of SQLite, which locks the file, a statement of PostgreSQL, and a
    command or a script of Redis.
    """
    left: list[int] = []
    waiting: list[Callable[[], object]] = []

    def count() -> None:
        if not waiting:
            return
        if left[0]:
            left[0] -= 1
            return
        waiting.pop()()

    def watch(home: type, name: str) -> None:
        call = getattr(home, name)

        def counted(*arguments: object, **keywords: object) -> object:
            count()
            return call(*arguments, **keywords)

        monkeypatch.setattr(home, name, counted)

    watch(SqliteDatabase, "run")
    watch(PostgresConnection, "execute")
    watch(RedisClient, "command")
    watch(RedisClient, "run")

    def interpose(number: int, act: Callable[[], object]) -> None:
        left[:], waiting[:] = [number], [act]

    return interpose


def begin(fleet: Fleet) -> tuple[Process, Process, Claim]:
    """Return a process that has claimed a run, a worker, and the claim."""
    poster, worker = fleet.join({"work": make_task()}), fleet.join_as_worker()
    fleet.clock.forward(EVERY)
    return poster, worker, poster.claim_one()


def run_of(process: Process, claim: Claim) -> Run:
    """Return the run of a claim as it is in the store."""
    run = process.store.run(claim.run.id)
    require(run, "a run that is kept")
    assert run is not None
    return run


@shared
@pytest.mark.parametrize("number", MOMENTS)
def test_post_at_any_moment_of_a_take_leaves_the_run_to_the_worker(
    fleet: Fleet, interpose: Interpose, number: int
) -> None:
    """The run is with the poster before that moment, and in the queue after it."""
    poster, worker, claim = begin(fleet)
    posted: list[bool] = []
    interpose(number, lambda: posted.extend(poster.post(claim)))
    taken = worker.take(claim)
    interpose(0, lambda: None)
    assert taken is not None
    assert run_of(poster, claim) == taken.run
    assert poster.post(claim) == [False]
    assert worker.finish(taken)


@shared
@pytest.mark.parametrize("number", MOMENTS)
def test_take_at_any_moment_of_a_post_takes_the_run(
    fleet: Fleet, interpose: Interpose, number: int
) -> None:
    """The post is refused, or was written before."""
    poster, worker, claim = begin(fleet)
    taken: list[Claim | None] = []
    interpose(number, lambda: taken.append(worker.take(claim)))
    posted = poster.post(claim)
    interpose(0, lambda: None)
    taken = taken or [worker.take(claim)]
    assert taken[0] is not None
    assert run_of(poster, claim) == taken[0].run
    assert posted in ([True], [False])


@shared
@pytest.mark.parametrize("number", MOMENTS)
def test_take_of_another_worker_at_any_moment_of_a_take_leaves_one_of_them(
    fleet: Fleet, interpose: Interpose, number: int
) -> None:
    """The message was delivered twice."""
    poster, worker, claim = begin(fleet)
    poster.post(claim)
    other = fleet.join_as_worker()
    others: list[Claim | None] = []
    interpose(number, lambda: others.append(other.take(claim)))
    taken = worker.take(claim)
    interpose(0, lambda: None)
    others = others or [other.take(claim)]
    won = [one for one in (taken, *others) if one is not None]
    assert [one.run for one in won] == [run_of(poster, claim)]


@shared
@pytest.mark.parametrize("number", MOMENTS)
def test_give_back_at_any_moment_of_a_take_leaves_one_of_them(
    fleet: Fleet, interpose: Interpose, number: int
) -> None:
    """The broker had the message although it did not say so."""
    poster, worker, claim = begin(fleet)
    returned: list[bool] = []
    interpose(number, lambda: returned.append(poster.give_back(claim)))
    taken = worker.take(claim)
    interpose(0, lambda: None)
    returned = returned or [poster.give_back(claim)]
    assert (taken is not None) is not returned[0]
    run = run_of(poster, claim)
    assert (run.holder, run.attempt) == ((worker.member.holder, 1) if taken else ("", 0))


@overlapping
def test_run_that_is_taken_as_somebody_stops_it_is_stopped_by_its_worker(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop has read a posted run, which it would have ended at once."""
    poster, worker, claim = begin(fleet)
    poster.post(claim)
    taken: list[Claim | None] = []

    def overtaken(run: Run) -> Run:
        if not taken:
            taken.append(worker.take(claim))
        return unclaim_run(run)

    monkeypatch.setattr("pulse.store.shared.tasks.unclaim_run", overtaken)
    assert poster.store.stop(claim.run.id, by="anna").outcome is None
    assert taken[0] is not None
    assert worker.store.heartbeat().stops[claim.run.id].by == "anna"
    assert worker.finish(taken[0], outcome=Outcome.INTERRUPTED)


@pytest.mark.parametrize("fleet", [POSTGRES], indirect=True)
def test_take_that_waits_for_a_post_takes_the_run(fleet: Fleet) -> None:
    """PostgreSQL compares again once the row is unlocked: its holder is another one then."""
    poster, worker, claim = begin(fleet)
    taken: list[Claim | None] = []
    thread = threading.Thread(target=lambda: taken.append(worker.take(claim)))
    runs = f"{schema_of('')}.runs"
    with psycopg.connect(fleet.url) as other, psycopg.connect(fleet.url, autocommit=True) as watch:
        changed = other.execute(
            f"UPDATE {runs} SET holder = %s WHERE id = %s",  # noqa: S608 - a name of this test
            (QUEUE_HOLDER, claim.run.id),
        )
        require(changed.rowcount == 1, "a run to post")
        thread.start()
        bound = time.monotonic() + BOUND_S
        while watch.execute(_BLOCKED).fetchone() != (1,):
            require(time.monotonic() < bound, "a take that waits for the post")
            time.sleep(0.01)
        assert not taken
        other.commit()
    thread.join(BOUND_S)
    assert taken[0] is not None
    assert run_of(poster, claim) == taken[0].run
