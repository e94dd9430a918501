"""Forked children of a patched process: copied greenlets have no effect."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event
from gevent.monkey import get_original

from pulse import events
from pulse.clock import SECOND, SystemClock
from pulse.config.loader import load
from pulse.core.run import Outcome, Result
from pulse.core.task import Task
from pulse.engine.child_protocol import ChildSetup, MiddlewareFingerprint
from pulse.engine.greenlets import GreenletEngine
from pulse.engine.processes import ProcessEngine
from pulse.engine.threads import ThreadEngine
from pulse.forks import ForkMark
from pulse.runtime import PulseRuntime
from pulse.store.postgres.database import PostgresDatabase
from pulse.store.process_identity import this_member
from pulse.store.redis.store import RedisStore
from pulse.testing.engine_harness import EngineHarness
from pulse.testing.sample_runs import make_claim
from tests.support.claims import make_claim as claim_of
from tests.support.forks import in_child, status_of
from tests.support.redis_servers import empty_redis
from tests.support.transactions import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pulse.core.run import Claim
    from tests.support.postgres import PostgresCluster
    from tests.support.redis_servers import RedisServer

BOUND_S = 20
LEASE = 30 * SECOND


# Engines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [GreenletEngine, ThreadEngine])
def test_submitted_claims_are_performed_only_in_the_parent(kind: type) -> None:
    """The fork comes before the greenlets that take the claims have started."""
    performed: list[str] = []

    def perform(claim: Claim) -> Result:
        performed.append(claim.run.task)
        return Result(Outcome.SUCCEEDED, 0, 0)

    stage = EngineHarness(kind(SystemClock()), concurrency=4, perform=perform)
    stage.submit(*(make_claim("quick") for _ in range(4)))

    def wait() -> bool:
        stage.engine.forked()
        gevent.sleep(0.3)
        return (performed, stage.completed) == ([], [])

    child = in_child(wait)
    stage.await_endings(4)
    assert (status_of(child), performed) == (0, ["quick"] * 4)
    stage.engine.stop(0)


@pytest.mark.parametrize("kind", [GreenletEngine, ThreadEngine])
def test_a_run_is_neither_interrupted_nor_reported_in_a_forked_child(kind: type) -> None:
    """The copy of the application's greenlet waits there undisturbed."""
    raised: list[BaseException] = []

    def perform(_: Claim) -> Result:
        try:
            gevent.sleep(1)
        except BaseException as error:
            raised.append(error)
            raise
        return Result(Outcome.SUCCEEDED, 0, 0)

    stage = EngineHarness(kind(SystemClock()), concurrency=1, perform=perform)
    stage.submit(make_claim("nap", timeout=0.2))
    gevent.sleep(0.05)

    def wait() -> bool:
        stage.engine.forked()
        gevent.sleep(1.5)
        return (raised, stage.left, stage.completed) == ([], [], [])

    child = in_child(wait)
    (completed_run,) = stage.await_endings(1)
    assert (status_of(child), completed_run.result.outcome) == (0, Outcome.TIMED_OUT)
    stage.engine.stop(0)


@pytest.mark.parametrize("kind", [GreenletEngine, ThreadEngine])
def test_a_drain_interrupts_nothing_in_a_forked_child(kind: type) -> None:
    """A stop that is in progress in the parent continues in the copy, without effect."""
    ended: list[str] = []

    def perform(_: Claim) -> Result:
        try:
            gevent.sleep(0.8)
        finally:
            ended.append("run")
        return Result(Outcome.SUCCEEDED, 0, 0)

    stage = EngineHarness(kind(SystemClock()), concurrency=1, perform=perform)
    stage.submit(make_claim("nap"))
    gevent.sleep(0.05)
    stopping = gevent.spawn(stage.engine.stop, SECOND * 3 // 10)
    gevent.sleep(0.05)

    def wait() -> bool:
        stage.engine.forked()
        gevent.sleep(0.5)
        return (ended, stage.completed) == ([], [])

    child = in_child(wait)
    stopping.join(BOUND_S)
    assert status_of(child) == 0
    assert [completed_run.result.outcome for completed_run in stage.completed] == [
        Outcome.INTERRUPTED
    ]


def test_an_idle_slot_of_a_copy_ends_no_child_process_of_the_parent() -> None:
    """An idle slot ends its child process; in a forked child a slot has none."""
    setup = ChildSetup(
        application="tests.support.child_app:app", fingerprint=MiddlewareFingerprint(digest="inner")
    )
    engine = ProcessEngine(SystemClock(), child=setup, idle_us=SECOND)
    stage = EngineHarness(engine, concurrency=1)
    stage.submit(claim_of(action="/pid"))
    (first,) = stage.await_endings(1)
    pid = int(first.result.message)

    def wait() -> bool:
        engine.forked()
        gevent.sleep(2)
        return True

    child = in_child(wait)
    for _ in range(5):
        gevent.sleep(0.4)
        stage.perform_all(claim_of(action="/pid"))
    assert status_of(child) == 0
    assert {int(completed_run.result.message) for completed_run in stage.completed} == {pid}
    engine.stop(0)


def test_a_slot_reads_no_answer_in_a_forked_child() -> None:
    """Both share the socket to the child process, and only one may read it."""
    setup = ChildSetup(
        application="pulse.testing.sample_runs:app",
        fingerprint=MiddlewareFingerprint(digest="inner"),
    )
    engine = ProcessEngine(SystemClock(), child=setup)
    stage = EngineHarness(engine, concurrency=4)
    stage.perform_all(*(make_claim("quick") for _ in range(4)))
    stage.submit(*(make_claim("nap", 0.5) for _ in range(4)))
    gevent.sleep(0.1)

    def wait() -> bool:
        engine.forked()
        gevent.sleep(1)
        return len(stage.completed) == 4

    child = in_child(wait)
    outcomes = {completed_run.result.outcome for completed_run in stage.await_endings(8)}
    assert (status_of(child), outcomes) == (0, {Outcome.SUCCEEDED})
    engine.stop(0)


# Stores ---------------------------------------------------------------------------------------


def await_calls(server: RedisServer) -> None:
    """Wait until calls have come to a server that is paused."""
    with gevent.Timeout(BOUND_S):
        gevent.sleep(0)  # calls that were spawned begin, even if one of the loop has come before
        while not server.unread():
            gevent.sleep(0.001)


def redis_store(server: RedisServer) -> RedisStore:
    """Return an open store."""
    store = RedisStore(server.url, SystemClock(), opened={})
    store.open(this_member("gevent", "digest", LEASE))
    return store


def test_only_the_parent_gets_answers_from_redis() -> None:
    """Several greenlets wait for answers when another one forks."""
    server = empty_redis()
    store = redis_store(server)
    server.pause()
    calls = [gevent.spawn(store.members) for _ in range(8)]
    await_calls(server)
    gevent.sleep(0.05)

    def wait() -> bool:
        store.forked()
        gevent.sleep(1)
        return not any(call.ready() for call in calls)

    child = in_child(wait)
    server.resume()
    answers = [[member.mode for member in call.get(timeout=BOUND_S)] for call in calls]
    assert (status_of(child), answers) == (0, [["gevent"]] * 8)
    store.close()


def test_a_greenlet_that_connects_to_redis_sends_nothing_in_a_forked_child() -> None:
    """A second handshake would mix up the answers."""
    server = empty_redis()
    store = redis_store(server)
    server.pause()
    calls = [gevent.spawn(store.members) for _ in range(8)]  # more than there are connections
    gevent.sleep(0)

    def wait() -> bool:
        store.forked()
        gevent.sleep(1)
        return not any(call.ready() for call in calls)

    child = in_child(wait)
    server.resume()
    answers = [[member.mode for member in call.get(timeout=BOUND_S)] for call in calls]
    assert (status_of(child), answers) == (0, [["gevent"]] * 8)
    store.close()


@pytest.fixture
def postgres(postgres_cluster: PostgresCluster) -> Iterator[PostgresDatabase]:
    """Return an open database."""
    limit = BOUND_S * SECOND
    server = PostgresDatabase(postgres_cluster.url(), space="", limit_us=limit, server_clock=None)
    server.open()
    yield server
    server.close()


def ask(server: PostgresDatabase, number: int) -> int:
    """Return *number*, by way of the server, after half a second."""
    ((answer,),) = fetch(server, "SELECT ?::bigint FROM pg_sleep(0.5)", number)
    return int(answer)


def test_only_the_parent_gets_answers_from_postgresql(postgres: PostgresDatabase) -> None:
    """Several greenlets run queries, in old and new connections, when another one forks."""
    ask(postgres, 0)
    calls = [gevent.spawn(ask, postgres, number) for number in range(6)]
    gevent.sleep(0.02)

    def wait() -> bool:
        postgres.forked()
        gevent.sleep(1)
        return not any(call.ready() for call in calls)

    child = in_child(wait)
    assert [call.get(timeout=BOUND_S) for call in calls] == list(range(6))
    assert status_of(child) == 0


def test_a_greenlet_that_connects_to_postgresql_continues_only_in_the_parent(
    postgres: PostgresDatabase,
) -> None:
    """The copy does not log in."""
    calls = [gevent.spawn(ask, postgres, number) for number in range(6)]
    gevent.sleep(0)

    def wait() -> bool:
        postgres.forked()
        gevent.sleep(1)
        return not any(call.ready() for call in calls)

    child = in_child(wait)
    assert [call.get(timeout=BOUND_S) for call in calls] == list(range(6))
    assert status_of(child) == 0


def test_a_timeout_of_the_application_in_a_forked_child_ends_no_session(
    postgres: PostgresDatabase,
) -> None:
    """The timeout makes the copy close its connection, which the parent still uses."""

    def ask_impatiently() -> int:
        with gevent.Timeout(0.3, exception=False):
            return ask(postgres, 7)
        return 0

    patient, hasty = gevent.spawn(ask, postgres, 1), gevent.spawn(ask_impatiently)
    gevent.sleep(0.05)

    def throw() -> bool:
        postgres.forked()
        patient.kill(block=False)
        gevent.sleep(0.6)
        return (patient.ready(), hasty.value) == (True, 0)

    child = in_child(throw)
    assert patient.get(timeout=BOUND_S) == 1
    assert status_of(child) == 0


# The whole ------------------------------------------------------------------------------------


def view(_: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
    """Answer that all is well."""
    start_response("200 OK", [])
    return [b"done"]


def nap(napping: Event, _: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
    """Answer after a second."""
    napping.set()
    gevent.sleep(1)
    return view({}, start_response)


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Callable[..., PulseRuntime]]:
    """Return what makes wholes, which are ended after the test."""
    made: list[PulseRuntime] = []

    def begin(
        store: str = "", app: Callable[..., list[bytes]] = view, **settings: object
    ) -> PulseRuntime:
        words = {"store": store or f"sqlite:///{tmp_path}/pulse.db", "mode": "gevent", **settings}
        tasks = {"work": Task(action="/work", interval="200ms")}
        made.append(PulseRuntime(app, load({}, words | {"tasks": tasks}), clock=SystemClock()))
        made[-1].start()
        return made[-1]

    yield begin
    for one in made:
        one.shutdown(None)


def test_a_call_of_the_application_waits_for_ever_in_a_forked_child(
    whole: Callable[..., PulseRuntime],
) -> None:
    """It gets neither an answer nor an error there, even after the driver's timeout."""
    server = empty_redis()
    runtime = whole(server.url, lease="30s")
    gevent.joinall([gevent.spawn(runtime.handle.members) for _ in range(4)])
    server.pause()
    call = gevent.spawn(runtime.handle.members)
    await_calls(server)

    def wait() -> bool:
        runtime.forked()
        gevent.sleep(4)  # redis-py waits for an answer for half of that
        return not call.ready()

    child = in_child(wait)
    server.resume()
    assert [member.pid for member in call.get(timeout=BOUND_S)] == [os.getpid()]
    assert status_of(child) == 0


@pytest.mark.parametrize("mode", ["gevent", "threading"])
def test_a_stop_outlasts_the_greenlet_that_forked(
    tmp_path: Path, mode: str, whole: Callable[..., PulseRuntime]
) -> None:
    """Otherwise the copied shutdown would end the child during its work."""
    napping, order, statuses = Event(), [], []
    runtime = whole(f"sqlite:///{tmp_path}/naps.db", mode=mode, app=partial(nap, napping))
    napping.wait(BOUND_S)

    def work() -> None:
        child = os.fork()
        if child:
            statuses.append(status_of(child))
            return
        runtime.forked()
        gevent.sleep(1.5)
        order.append("work")

    def stop() -> None:
        runtime.shutdown(None)
        order.append("stop")
        if order == ["work", "stop"]:
            os._exit(7)

    stopping = gevent.spawn(stop)
    gevent.sleep(0.1)
    gevent.spawn(work).join(BOUND_S)
    stopping.join(BOUND_S)
    assert (statuses, order) == ([7], ["stop"])


def test_a_native_thread_may_fork(whole: Callable[..., PulseRuntime]) -> None:
    """No greenlet of the hub continues in the child, and the handle raises."""
    runtime, heard = whole(), []
    runtime.bus.subscribe(events.RunEnded, heard.append)
    fork, sleep, waitpid = (
        get_original(*name) for name in (("os", "fork"), ("time", "sleep"), ("os", "waitpid"))
    )

    def wait() -> bool:
        runtime.forked()
        before = len(heard)
        sleep(0.5)
        return len(heard) == before

    def fork_and_wait() -> int:
        child = in_child(wait, fork=fork)
        return int(os.waitstatus_to_exitcode(waitpid(child, 0)[1]))

    assert gevent.get_hub().threadpool.apply(fork_and_wait) == 0


def test_a_worker_that_starts_is_a_member_of_its_own(
    whole: Callable[..., PulseRuntime],
) -> None:
    """The copy of the master's scheduler has no effect, and the worker claims by itself."""
    runtime = whole()
    master = os.getpid()

    def begin_anew() -> bool:
        heard: list[events.RunEnded] = []
        runtime.forked()
        runtime.start()
        runtime.bus.subscribe(events.RunEnded, heard.append)
        with gevent.Timeout(BOUND_S):
            while not heard:
                gevent.sleep(0.01)
        members = {member.pid for member in runtime.handle.members()}
        runtime.shutdown(None)
        return members == {master, os.getpid()}

    child = in_child(begin_anew)
    runtime.stop_claiming()
    assert status_of(child) == 0


def test_a_blocked_greenlet_raises_exceptions_that_are_thrown_into_it() -> None:
    """The application may end its own greenlet while pulse blocks it."""
    mark, caught = ForkMark(), []

    def stay() -> None:
        try:
            with gevent.Timeout(0.1):
                mark.stay()
        except gevent.Timeout as error:
            caught.append(error)

    mark.set()
    staying = gevent.spawn(stay)
    staying.join(BOUND_S)
    assert len(caught) == 1
