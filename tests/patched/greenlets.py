"""What the engine of greenlets promises beyond the port: whom it hits, what it survives."""

from __future__ import annotations

import time
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event
from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from pulse.clock import SECOND, SystemClock
from pulse.core.run import Outcome, Result
from pulse.engine.base import Interruption
from pulse.engine.greenlets import GreenletEngine
from pulse.testing.engine_harness import BOUND, EngineHarness
from pulse.testing.sample_runs import make_claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pulse.core.run import Claim

DONE = Result(Outcome.SUCCEEDED, 0, 0)
native_sleep = get_original("time", "sleep")
word: ContextVar[str] = ContextVar("word", default="unset")


@pytest.fixture
def begin() -> Iterator[Callable[..., EngineHarness]]:
    """Start engines of one slot around a given app, and stop them after the test."""
    stages = []

    def start(app: Callable[[Claim], object], *, concurrency: int = 1) -> EngineHarness:
        def perform(claim: Claim) -> Result:
            app(claim)
            return DONE

        engine = GreenletEngine(SystemClock())
        stages.append(EngineHarness(engine, concurrency=concurrency, perform=perform))
        return stages[-1]

    yield start
    for stage in stages:
        stage.engine.stop(0)


def raise_once(error: BaseException, claim: Claim) -> None:
    """Raise *error* in the run of a crash."""
    if claim.run.task == "crash":
        raise error


@pytest.mark.parametrize(
    "error",
    [gevent.Timeout(1), gevent.GreenletExit(), SystemExit(1), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
def test_what_gevent_treats_specially_is_a_failed_run(
    begin: Callable[..., EngineHarness], error: BaseException
) -> None:
    """An app may raise what ends other greenlets: its run fails, and the next one is performed."""
    stage = begin(partial(raise_once, error))
    outcomes = stage.perform_all(make_claim("crash"), make_claim("quick"))
    assert outcomes == [Outcome.FAILED, Outcome.SUCCEEDED]


def test_a_failed_run_carries_its_traceback(begin: Callable[..., EngineHarness]) -> None:
    """What a run let out is told in full."""
    stage = begin(partial(raise_once, gevent.Timeout(7, "too slow")))
    stage.perform_all(make_claim("crash"))
    message = stage.completed[0].result.message
    assert "in raise_once" in message
    assert "7 seconds: too slow" in message


def test_an_interruption_names_its_claim(begin: Callable[..., EngineHarness]) -> None:
    """The run that is interrupted sees whose time is over, and for which outcome."""
    seen = []

    def app(_: Claim) -> None:
        try:
            gevent.sleep(60)
        except Interruption as stop:
            seen.append((stop.claim, stop.outcome))
            raise

    stage, claim = begin(app), make_claim("nap", timeout=0.05)
    stage.perform_all(claim)
    assert seen == [(claim, Outcome.TIMED_OUT)]


def test_runs_share_a_greenlet_until_one_is_interrupted(
    begin: Callable[..., EngineHarness],
) -> None:
    """A greenlet lives through many runs; after an interruption another takes its place."""
    seen = []

    def app(claim: Claim) -> None:
        seen.append(gevent.getcurrent())
        if claim.run.task == "nap":
            gevent.sleep(60)

    stage = begin(app)
    for kind in ("quick", "quick", "nap", "quick"):
        stage.perform_all(make_claim(kind, timeout=0.05))
    first, second, third, fourth = seen
    assert first is second is third is not fourth


def test_a_timeout_that_an_app_left_behind_hits_nobody(begin: Callable[..., EngineHarness]) -> None:
    """A timer of the app that fires when its run is long over does not end the greenlet."""
    fired = Event()

    def app(claim: Claim) -> None:
        if claim.run.task == "nap":
            gevent.Timeout(0.02).start()
            gevent.spawn_later(0.04, fired.set)

    stage = begin(app)
    stage.perform_all(make_claim("nap"))
    fired.wait()
    assert stage.perform_all(make_claim("quick")) == [Outcome.SUCCEEDED]


def test_an_idle_greenlet_that_somebody_killed_is_replaced(
    begin: Callable[..., EngineHarness],
) -> None:
    """An app that kills the greenlet it once ran in does no harm to later runs."""
    seen = []
    stage = begin(lambda _: seen.append(gevent.getcurrent()))
    stage.perform_all(make_claim("quick"))
    seen[0].kill()
    outcomes = stage.perform_all(make_claim("quick"))
    assert (outcomes, seen[0] is seen[1]) == ([Outcome.SUCCEEDED], False)


def test_a_run_that_ignores_its_interruption_is_left_behind(
    begin: Callable[..., EngineHarness],
) -> None:
    """It is announced once, its slot is given away, and it is `timed_out` when it ends."""
    gate = Event()

    def app(claim: Claim) -> None:
        while claim.run.task == "swallow" and not gate.is_set():
            try:
                gate.wait()
            except Interruption:
                continue

    stage, claim = begin(app), make_claim("swallow", timeout=0.05)
    stage.submit(claim)
    stage.until(lambda: bool(stage.left), "word of the run left behind")
    meanwhile = stage.perform_all(make_claim("quick"))
    gate.set()
    stage.await_endings(2)
    assert (stage.left, meanwhile) == ([(claim, 1)], [Outcome.SUCCEEDED])
    assert stage.outcomes()[claim.run.id] is Outcome.TIMED_OUT


def test_a_run_that_ignores_the_stop_is_reported_once(begin: Callable[..., EngineHarness]) -> None:
    """`stop` gives up on it after a grace, and what it returns later is dropped."""
    gate, ended = Event(), Event()

    def app(_: Claim) -> None:
        while not gate.is_set():
            try:
                gate.wait()
            except Interruption:
                continue
        ended.set()

    stage = begin(app)
    stage.submit(make_claim("swallow"))
    stage.engine.stop(0)
    gate.set()
    ended.wait()
    gevent.sleep(0)
    assert [completed_run.result.outcome for completed_run in stage.completed] == [
        Outcome.INTERRUPTED
    ]


def test_a_slow_cleanup_ends_within_the_grace(begin: Callable[..., EngineHarness]) -> None:
    """An interrupted run may clean up for a moment without being called left behind."""

    def app(_: Claim) -> None:
        try:
            gevent.sleep(60)
        finally:
            gevent.sleep(0.1)

    stage = begin(app)
    outcomes = stage.perform_all(make_claim("nap", timeout=0.05))
    assert (outcomes, stage.left) == ([Outcome.TIMED_OUT], [])


def test_runs_and_the_loop_inherit_no_context(begin: Callable[..., EngineHarness]) -> None:
    """An engine started in a request knows nothing of the request's context variables."""
    seen = []
    word.set("the request's")
    stage = begin(lambda _: seen.append(word.get()))
    stage.perform_all(make_claim("quick"))
    stage.engine.loop.spawn(lambda: seen.append(word.get()))
    stage.engine.loop.join(BOUND)
    assert seen == ["unset", "unset"]


def test_a_run_does_not_see_the_context_of_the_one_before(
    begin: Callable[..., EngineHarness],
) -> None:
    """What a run sets in its context is gone with it."""
    seen = []

    def app(_: Claim) -> None:
        seen.append(word.get())
        word.set("mine")

    stage = begin(app)
    stage.perform_all(make_claim("quick"), make_claim("quick"))
    assert seen == ["unset", "unset"]


def test_requests_have_a_turn_between_runs_that_compute(
    begin: Callable[..., EngineHarness],
) -> None:
    """Runs that were submitted together do not hold the hub from the first to the last."""
    seen = []

    def compute(_: Claim) -> None:
        seen.append("run")
        native_sleep(0.02)

    def serve() -> None:
        while True:
            gevent.sleep(0.001)
            seen.append("request")

    stage, serving = begin(compute, concurrency=4), gevent.spawn(serve)
    gevent.sleep(0)
    stage.perform_all(*(make_claim("quick") for _ in range(4)))
    serving.kill()
    last = len(seen) - seen[::-1].index("run")
    assert "request" in seen[seen.index("run") : last]


def test_offload_does_not_stall_the_hub(begin: Callable[..., EngineHarness]) -> None:
    """Greenlets go on while a native call blocks in `offload`."""
    stage, beats = begin(lambda _: None), []
    gives_up_at = time.monotonic() + BOUND / SECOND

    def beat() -> None:
        while True:
            beats.append(time.monotonic())
            gevent.sleep(0.01)

    def block() -> None:
        while len(beats) <= 10 and time.monotonic() < gives_up_at:
            native_sleep(0.01)

    beating = gevent.spawn(beat)
    stage.engine.loop.offload(block)
    beating.kill()
    assert len(beats) > 10


def test_offload_in_a_native_thread_is_a_plain_call(begin: Callable[..., EngineHarness]) -> None:
    """A caller outside the hub's thread may block, and does."""
    stage = begin(lambda _: None)
    assert ThreadPool(1).apply(stage.engine.loop.offload, (lambda: "there",)) == "there"


def test_a_native_thread_can_wake_the_loop(begin: Callable[..., EngineHarness]) -> None:
    """`wake` from a native thread ends a `wait` in the hub."""
    stage, before = begin(lambda _: None), time.monotonic()

    def wake_later() -> None:
        native_sleep(0.05)
        stage.engine.loop.wake()

    ThreadPool(1).spawn(wake_later)
    stage.engine.loop.wait(BOUND)
    assert time.monotonic() - before < BOUND / SECOND / 2


def test_a_native_thread_can_stop_the_engine(begin: Callable[..., EngineHarness]) -> None:
    """`stop` from a native thread returns when all has been reported."""
    stage = begin(lambda _: gevent.sleep(60))
    stage.submit(make_claim("nap"))
    ThreadPool(1).apply(stage.engine.stop, (0,))
    assert list(stage.outcomes().values()) == [Outcome.INTERRUPTED]


def test_a_run_that_waited_for_the_hub_is_not_late(begin: Callable[..., EngineHarness]) -> None:
    """While one run holds the hub for longer than another's timeout, only the hub is late."""

    def app(claim: Claim) -> None:
        if claim.run.task == "cpu":
            native_sleep(0.4)

    stage = begin(app, concurrency=2)
    stage.engine.submit(make_claim("cpu"))
    quick = make_claim("quick", timeout=0.1)
    stage.engine.submit(quick)
    completed = stage.await_endings(2)
    assert {completed_run.result.outcome for completed_run in completed} == {Outcome.SUCCEEDED}


def test_a_loop_that_was_never_spawned_has_ended() -> None:
    """An engine whose start failed half way is stopped without having run a loop."""
    assert GreenletEngine(SystemClock()).loop.join(0)
