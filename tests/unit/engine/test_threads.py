"""What the engine of threads does with runs that it cannot stop."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.core.run import Outcome, Result
from pulse.engine.base import EngineCallbacks
from pulse.engine.threads import ThreadEngine
from pulse.testing.engine_harness import BOUND, EngineHarness
from pulse.testing.sample_runs import make_claim
from tests.support.interrupted import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.core.run import Claim

DONE = Result(Outcome.SUCCEEDED, 0, 0)
word: ContextVar[str] = ContextVar("word", default="unset")


class Gated:
    """An engine whose naps last until the gate opens."""

    def __init__(self, *, concurrency: int) -> None:
        self.gate = threading.Event()
        self.seen: list[str] = []
        self.engine = ThreadEngine(SystemClock())
        self.stage = EngineHarness(self.engine, concurrency=concurrency, perform=self._perform)

    def _perform(self, claim: Claim) -> Result:
        self.seen.append(word.get())
        word.set("of an earlier run")
        if claim.run.task == "nap":
            self.gate.wait(BOUND / SECOND)
        return DONE

    def leave_behind(self, count: int) -> list[Claim]:
        """Have so many runs outlast their timeouts, one after another."""
        claims = [make_claim("nap", timeout=0.01) for _ in range(count)]
        for number, claim in enumerate(claims, 1):
            self.stage.submit(claim)
            self.stage.until(lambda number=number: len(self.stage.left) >= number, "overdue run")
        return claims


@pytest.fixture
def gated() -> Iterator[Gated]:
    """Start an engine of one slot, and stop it after the test."""
    gated = Gated(concurrency=1)
    yield gated
    gated.gate.set()
    gated.engine.stop(BOUND)


def count_threads(name: str = "pulse-run") -> int:
    """Return how many threads of that name there are."""
    return sum(thread.name == name for thread in threading.enumerate() if thread not in _others)


_others: set[threading.Thread] = set()
"""Threads that were there before the test: they belong to the schedulers of other tests."""


@pytest.fixture(autouse=True)
def _ignore_threads_of_other_tests() -> None:
    _others.clear()
    _others.update(threading.enumerate())


def test_each_run_left_behind_is_announced_with_their_number(gated: Gated) -> None:
    """Who listens learns how many threads have been left behind."""
    claims = gated.leave_behind(3)
    assert gated.stage.left == list(zip(claims, (1, 2, 3), strict=True))


def test_two_runs_a_slot_may_be_left_behind(gated: Gated) -> None:
    """Up to the cap a timeout frees the slot; beyond it the slot stays taken."""
    free = []
    for _ in range(3):
        gated.leave_behind(1)
        gated.stage.left.clear()
        free.append(gated.engine.free())
    assert free == [1, 1, 0]


def test_threads_left_behind_end_with_their_runs(gated: Gated) -> None:
    """When the runs end at last they are reported, and the pool has its old size again."""
    gated.leave_behind(3)
    gated.gate.set()
    gated.stage.await_endings(3)
    gated.stage.until(lambda: count_threads() == 1, "end of the surplus threads")
    assert (set(gated.stage.outcomes().values()), gated.engine.free()) == ({Outcome.TIMED_OUT}, 1)


def test_a_slot_beyond_the_cap_works_again_when_its_run_has_ended(gated: Gated) -> None:
    """The thread of a run beyond the cap goes on to take claims."""
    gated.leave_behind(3)
    gated.gate.set()
    gated.stage.await_endings(3)
    assert gated.stage.perform_all(make_claim("quick")) == [Outcome.SUCCEEDED]


def test_a_system_out_of_threads_keeps_the_slot_taken(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can take the place of a late one, no claim is asked for."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    gated.stage.perform_all(make_claim("quick"))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    gated.leave_behind(1)
    assert gated.engine.free() == 0


def test_a_run_without_any_thread_is_interrupted(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system starts no thread at all, the run is reported, and a later one may begin."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        first = gated.stage.perform_all(make_claim("quick"))
    assert first == [Outcome.INTERRUPTED]
    assert gated.stage.perform_all(make_claim("quick")) == [Outcome.SUCCEEDED]


def test_a_run_beyond_the_threads_of_the_system_waits_for_another_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread that ends its run takes the one that waits, and fewer claims are asked for."""
    gated = Gated(concurrency=3)
    gated.stage.submit(make_claim("nap"))
    gated.stage.until(lambda: len(gated.seen) == 1, "a thread that is busy")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        gated.stage.submit(make_claim("quick"))
    free = gated.engine.free()
    gated.gate.set()
    gated.stage.await_endings(2)
    gated.engine.stop(BOUND)
    assert (free, set(gated.stage.outcomes().values())) == (0, {Outcome.SUCCEEDED})


def test_stop_does_not_wait_for_runs_past_their_timeout(gated: Gated) -> None:
    """A run that was left behind gets no drain: it is reported `timed_out` at once."""
    gated.leave_behind(1)
    before = time.monotonic()
    gated.engine.stop(BOUND)
    assert time.monotonic() - before < BOUND / SECOND / 2
    assert list(gated.stage.outcomes().values()) == [Outcome.TIMED_OUT]


def test_a_run_that_becomes_late_in_the_drain_ends_it(gated: Gated) -> None:
    """The drain is over when nothing is left that is within its time."""
    gated.stage.submit(make_claim("nap", timeout=0.1))
    before = time.monotonic()
    gated.engine.stop(BOUND)
    assert time.monotonic() - before < BOUND / SECOND / 2
    assert list(gated.stage.outcomes().values()) == [Outcome.TIMED_OUT]


def test_an_idle_engine_stops_in_a_fifth_of_a_second(gated: Gated) -> None:
    """The exit of an idle process is not delayed."""
    gated.stage.perform_all(make_claim("quick"))
    before = time.monotonic()
    gated.engine.stop(BOUND)
    assert time.monotonic() - before < 0.2


def test_no_thread_outlives_the_stop() -> None:
    """Threads that carry no run end with the engine."""
    gated = Gated(concurrency=4)
    gated.engine.stop(0)
    for thread in threading.enumerate():
        if thread.name in {"pulse-run", "pulse-watch"} and thread not in _others:
            thread.join(BOUND / SECOND)
    assert count_threads() + count_threads("pulse-watch") == 0


def test_runs_and_the_loop_inherit_no_context(gated: Gated) -> None:
    """Each run has a context of its own: not the caller's, not that of the run before."""
    word.set("the request's")
    gated.stage.perform_all(make_claim("quick"), make_claim("quick"))
    gated.engine.loop.spawn(lambda: gated.seen.append(word.get()))
    gated.engine.loop.join(BOUND)
    assert gated.seen == ["unset"] * 3


class Wide:
    """An engine of ten slots that notes which thread performs each run."""

    def __init__(self) -> None:
        before = set(threading.enumerate())
        self.performed_by: list[int] = []
        self.engine = ThreadEngine(SystemClock())
        self.stage = EngineHarness(self.engine, concurrency=10, perform=self._perform)
        self.started = [thread.name for thread in threading.enumerate() if thread not in before]

    def _perform(self, _: Claim) -> Result:
        self.performed_by.append(threading.get_ident())
        return DONE

    def perform_one_after_another(self, count: int) -> None:
        """Have so many runs, each of which begins when the one before has ended."""
        for _ in range(count):
            self.stage.perform_all(make_claim("quick"))


@pytest.fixture
def wide() -> Iterator[Wide]:
    """Start an engine of ten slots, and stop it after the test."""
    wide = Wide()
    yield wide
    wide.engine.stop(0)


def test_runs_one_after_another_all_have_a_thread(wide: Wide) -> None:
    """Each run of a row is performed, and all ten slots are free after it."""
    wide.perform_one_after_another(40)
    assert (len(wide.performed_by), wide.engine.free()) == (40, 10)


def test_runs_one_after_another_stay_in_the_same_threads(wide: Wide) -> None:
    """The thread that was idle last takes the next run, so that few threads hold connections.

    On a busy machine it may not be back from the run before when the next one comes; ten threads
    are never needed.
    """
    wide.perform_one_after_another(40)
    assert len(set(wide.performed_by)) <= 4


def test_an_engine_that_has_no_run_yet_has_no_thread_for_runs(wide: Wide) -> None:
    """Threads are started when runs need them."""
    assert wide.started.count("pulse-run") == 0


def test_runs_side_by_side_have_a_thread_each() -> None:
    """As many threads are started as runs are in progress, and no more than there are slots."""
    gated = Gated(concurrency=4)
    for number in range(1, 5):
        gated.stage.submit(make_claim("nap"))
        gated.stage.until(lambda number=number: len(gated.seen) == number, "a run in progress")
    threads = count_threads()
    gated.gate.set()
    gated.stage.await_endings(4)
    gated.engine.stop(BOUND)
    assert threads == 4


def test_after_a_burst_runs_stay_in_the_thread_that_was_idle_last() -> None:
    """The threads of a burst stay, and one of them takes all later runs."""
    barrier, performed_by = threading.Barrier(5), []

    def perform(claim: Claim) -> Result:
        performed_by.append(threading.get_ident())
        if claim.run.task == "burst":
            barrier.wait(BOUND / SECOND)
        return DONE

    engine = ThreadEngine(SystemClock())
    stage = EngineHarness(engine, concurrency=5, perform=perform)
    stage.perform_all(*(make_claim("burst") for _ in range(5)))
    for _ in range(20):
        stage.perform_all(make_claim("quick"))
    engine.stop(BOUND)
    assert len(set(performed_by[:5])) == 5
    assert len(set(performed_by[5:])) <= 2


@pytest.mark.parametrize("nth", range(1, 8))
def test_a_stop_that_is_cut_short_anywhere_can_be_repeated(nth: int) -> None:
    """A Ctrl-C at any line of `stop` leaves an engine that the next call brings to its end."""
    engine = ThreadEngine(SystemClock())
    engine.start(EngineCallbacks(lambda _: DONE, lambda _: None, lambda *_: None), concurrency=2)
    with Interrupted(nth), suppress(KeyboardInterrupt):
        engine.stop(0)
    again = threading.Thread(target=engine.stop, args=(0,), daemon=True)
    again.start()
    again.join(BOUND / SECOND)
    assert not again.is_alive()
