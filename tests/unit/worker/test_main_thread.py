"""Runs in the main thread of a worker's child: timeouts, requests to stop, and SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.engine.base import Interruption
from pulse.testing.engine_harness import BOUND
from pulse.testing.sample_runs import LONG, make_claim, perform, read_seconds
from pulse.worker import main_thread
from pulse.worker.main_thread import MainThreadEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pulse.core.run import Claim

BOUND_S = BOUND / SECOND
DONE = Result(Outcome.SUCCEEDED, 0, 0)
SIGNAL = signal.SIGRTMIN


class Child:
    """An engine in this thread, and the thread that watches it.

    Attributes:
        completed: the runs that it has reported.
        outlasting: the runs for which the process would be killed.
        perform: what a run does.
        report: what happens when a run is reported.

    """

    def __init__(self) -> None:
        self.completed: list[CompletedRun] = []
        self.outlasting: list[CompletedRun] = []
        self.perform: Callable[[Claim], Result] = perform
        self.report: Callable[[], None] = lambda: None
        self._clock = SystemClock()
        self._begun = threading.Event()
        self._over = False
        self.engine = MainThreadEngine(
            self._clock,
            perform=self._perform,
            report=self._take,
            begun=self._begun.set,
            outlast=self.outlasting.append,
        )
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _perform(self, claim: Claim) -> Result:
        return self.perform(claim)

    def _take(self, completed_run: CompletedRun) -> None:
        self.report()
        self.completed.append(completed_run)

    def _watch(self) -> None:
        while not self._over:
            pause = self.engine.watch(self._clock.boot())
            self._begun.wait(min(pause, BOUND) / SECOND)
            self._begun.clear()

    def close(self) -> None:
        """End the thread."""
        self._over = True
        self._begun.set()
        self._thread.join(BOUND_S)

    def run(self, *claims: Claim) -> list[Outcome]:
        """Perform claims as a worker does, one after another; return the outcomes of all so far."""
        for claim in claims:
            with self.engine.undisturbed():
                self.engine.submit(claim)
        return [completed_run.result.outcome for completed_run in self.completed]


@pytest.fixture
def child() -> Iterator[Child]:
    """Return an engine whose watching thread ends after the test."""
    child = Child()
    yield child
    child.close()


@pytest.fixture
def terminated() -> Iterator[list[int]]:
    """Return how often the handler of SIGTERM was called that was there before the engine's."""
    calls: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: calls.append(number))
    yield calls
    signal.signal(signal.SIGTERM, before)


def test_a_run_is_reported_with_its_result(child: Child) -> None:
    """Before `submit` returns."""
    assert child.run(make_claim("quick")) == [Outcome.SUCCEEDED]


@pytest.mark.parametrize("kind", ["crash", "quit", "keyboard", "die"])
def test_whatever_a_run_raises_is_a_failure(child: Child, kind: str) -> None:
    """The process goes on with the next run."""
    outcomes = child.run(make_claim(kind), make_claim("quick"))
    assert outcomes == [Outcome.FAILED, Outcome.SUCCEEDED]


@pytest.mark.parametrize("kind", ["nap", "cpu"])
def test_a_run_is_interrupted_at_its_timeout(child: Child, kind: str) -> None:
    """Whether it waits or computes; the next run is not interrupted."""
    before = read_seconds()
    outcomes = child.run(make_claim(kind, LONG, timeout=0.1), make_claim("nap", 0.1))
    assert outcomes == [Outcome.TIMED_OUT, Outcome.SUCCEEDED]
    assert read_seconds() - before < BOUND_S


def test_a_run_that_swallows_its_interruption_is_timed_out_at_its_end(child: Child) -> None:
    """It is interrupted again, and is no success although it returns."""
    outcomes = child.run(make_claim("swallow", 0.4, timeout=0.1), make_claim("quick"))
    assert (outcomes, child.outlasting) == ([Outcome.TIMED_OUT, Outcome.SUCCEEDED], [])


def test_an_interruption_is_repeated(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application may have caught the first one in a part of its work."""
    monkeypatch.setattr(main_thread, "AGAIN", SECOND // 20)
    caught: list[BaseException] = []

    def catch_three(_: Claim) -> Result:
        while True:
            try:
                threading.Event().wait(BOUND_S)
            except BaseException as error:
                caught.append(error)
                if len(caught) == 3:
                    raise

    child.perform = catch_three
    assert (child.run(make_claim("nap", timeout=0.05)), len(caught)) == ([Outcome.TIMED_OUT], 3)


def test_a_run_that_outlasts_its_grace_is_passed_on_for_its_process_to_be_killed(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a result that says so: it is recorded before the kill."""
    monkeypatch.setattr(main_thread, "GRACE", SECOND // 10)

    def resist(_: Claim) -> Result:
        while not child.outlasting:
            with suppress(BaseException):  # as an application may do
                threading.Event().wait(0.01)
        return DONE

    child.perform = resist
    claim = make_claim("swallow", timeout=0.1)
    child.run(claim)
    killed, *_ = child.outlasting
    assert (killed.claim, killed.result.outcome) == (claim, Outcome.TIMED_OUT)
    assert killed.result.message == (
        "went on for 100ms after its timeout of 100ms, although it was interrupted; its process"
        " was killed"
    )
    assert killed.result.took_us >= SECOND // 5


def test_a_run_of_the_process_is_not_watched_when_it_has_ended(child: Child) -> None:
    """The thread may sleep until the next run begins."""
    child.run(make_claim("quick"))
    assert child.engine.watch(SystemClock().boot()) == main_thread.NO_RUN


def test_runs_that_end_at_their_timeout_do_not_interrupt_the_next_ones(child: Child) -> None:
    """However close the interruption comes."""
    for _ in range(30):
        child.run(make_claim("nap", 0.01, timeout=0.01), make_claim("quick"))
    outcomes = [completed_run.result.outcome for completed_run in child.completed]
    assert outcomes[1::2] == [Outcome.SUCCEEDED] * 30


def test_a_signal_that_comes_late_does_not_hit_the_next_run(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent for a run that has ended meanwhile."""
    held: list[int] = []

    def hold(_: int, number: int) -> None:
        held.append(number)

    def wait_for_signal(_: Claim) -> Result:
        for _ in range(round(BOUND_S * 1_000)):
            if held:
                break
            threading.Event().wait(0.001)
        return DONE

    def deliver(_: Claim) -> Result:
        signal.raise_signal(held[0])
        return DONE

    monkeypatch.setattr(signal, "pthread_kill", hold)
    child.perform = wait_for_signal
    child.run(make_claim("nap", timeout=0.02))
    child.perform = deliver
    assert child.run(make_claim("quick")) == [Outcome.TIMED_OUT, Outcome.SUCCEEDED]
    assert held == [SIGNAL]


def test_an_interruption_that_is_made_late_does_not_hit_the_next_run(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that watches found the timeout over, and had no turn until the next run began."""
    first, second = make_claim("nap", timeout=0.02), make_claim("quick")
    found, begun, sent = (threading.Event() for _ in range(3))
    kill = signal.pthread_kill

    def interrupt_late(claim: Claim, outcome: Outcome, reason: str = "") -> Interruption:
        if claim is first:
            found.set()
            begun.wait(BOUND_S)
        return Interruption(claim, outcome, reason)

    def note(thread: int, number: int) -> None:
        kill(thread, number)
        sent.set()

    def act(claim: Claim) -> Result:
        if claim is second:
            begun.set()
        (sent if claim is second else found).wait(BOUND_S)
        return DONE

    monkeypatch.setattr(main_thread, "Interruption", interrupt_late)
    monkeypatch.setattr(signal, "pthread_kill", note)
    child.perform = act
    assert child.run(first, second) == [Outcome.TIMED_OUT, Outcome.SUCCEEDED]
    assert sent.is_set()


def test_an_interruption_of_an_earlier_run_does_not_hit_the_present_one(child: Child) -> None:
    """Somebody has asked to stop a run that has just ended."""
    first = make_claim("quick")

    def interrupt_first(_: Claim) -> Result:
        child.engine.interrupt(first, "stopped by anna")
        threading.Event().wait(0.01)
        return DONE

    child.run(first)
    child.perform = interrupt_first
    assert child.run(make_claim("quick")) == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]


def test_a_run_is_interrupted_on_request(child: Child) -> None:
    """Called in another thread, with a reason; the next run is not interrupted."""
    claim = make_claim("nap", LONG)

    def wait_for_stop(claim: Claim) -> Result:
        stopper = threading.Timer(0.05, child.engine.interrupt, (claim, "stopped by anna"))
        stopper.start()
        try:
            return perform(claim)
        finally:
            stopper.join()

    child.perform = wait_for_stop
    outcomes = child.run(claim)
    child.perform = perform
    assert outcomes == [Outcome.INTERRUPTED]
    assert child.run(make_claim("nap", 0.05))[1:] == [Outcome.SUCCEEDED]


# SIGTERM ----------------------------------------------------------------------------------


def test_sigterm_interrupts_the_run_and_ends_the_process_after_it(
    child: Child, terminated: list[int]
) -> None:
    """The end is reported first; then the handler is called that was there before."""
    reported: list[int] = []
    child.report = lambda: reported.append(len(terminated))

    def terminate(claim: Claim) -> Result:
        os.kill(os.getpid(), signal.SIGTERM)
        return perform(claim)

    child.perform = terminate
    outcomes = child.run(make_claim("nap", LONG))
    assert (outcomes, reported, terminated) == ([Outcome.INTERRUPTED], [0], [signal.SIGTERM])


def test_sigterm_before_a_run_keeps_it_from_beginning(child: Child, terminated: list[int]) -> None:
    """The run was taken already, so it is reported; the application was not called."""
    with child.engine.undisturbed():
        signal.raise_signal(signal.SIGTERM)
        child.engine.submit(make_claim("crash"))
        waits = list(terminated)
    (completed_run,) = child.completed
    result = completed_run.result
    assert (result.outcome, result.was_dispatched) == (Outcome.INTERRUPTED, False)
    assert (waits, terminated) == ([], [signal.SIGTERM])


def test_sigterm_while_a_run_is_recorded_waits(child: Child, terminated: list[int]) -> None:
    """Nothing is raised into the record, however often the signal comes."""
    seen: list[int] = []
    with child.engine.undisturbed():
        child.engine.submit(make_claim("quick"))
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        seen = list(terminated)
    assert (seen, terminated) == ([], [signal.SIGTERM])
    assert child.completed[0].result.outcome is Outcome.SUCCEEDED


def test_sigterm_between_runs_has_the_handler_that_was_there(
    child: Child, terminated: list[int]
) -> None:
    """The engine has none then: Celery installs its own in each child."""
    child.run(make_claim("quick"))
    signal.raise_signal(signal.SIGTERM)
    assert terminated == [signal.SIGTERM]


def test_handlers_are_restored_after_an_error_too(child: Child, terminated: list[int]) -> None:
    """Such as one of the store; an interruption that comes later has no effect."""
    with pytest.raises(KeyError), child.engine.undisturbed():
        raise KeyError
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(SIGNAL)
    assert terminated == [signal.SIGTERM]


PROGRAM = """
import os, signal, sys, threading
from pulse.clock import SystemClock
from pulse.core.run import Outcome, Result
from pulse.testing.sample_runs import make_claim, perform
from pulse.worker.main_thread import MainThreadEngine

def write(text):
    os.write(1, f"{text}\\n".encode())

DONE, reports = Result(Outcome.SUCCEEDED, 0, 0), []
"""

KILLED = """
def kill(completed_run):
    write(f"killed {completed_run.result.outcome.value}")
    os.kill(os.getpid(), signal.SIGKILL)

clock, begun = SystemClock(), threading.Event()
engine = MainThreadEngine(
    clock, perform=perform, report=reports.append, begun=begun.set, outlast=kill
)

def watch():
    begun.wait()
    while True:
        threading.Event().wait(engine.watch(clock.boot()) / 1_000_000)

threading.Thread(target=watch, daemon=True).start()
with engine.undisturbed():
    engine.submit(make_claim("swallow", 60.0, timeout=0.1))
write("never")
"""

FORKED = """
def fork(claim):
    child = os.fork()
    if child == 0:
        engine.forked()
        if sys.argv[1] == "terminated":
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(60)
        return DONE
    write(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return DONE

engine = MainThreadEngine(
    SystemClock(), perform=fork, report=reports.append, begun=int, outlast=reports.append
)
with engine.undisturbed():
    engine.submit(make_claim("quick"))
write(f"reported {len(reports)}")
"""

TERMINATED = """
def terminate(claim):
    os.kill(os.getpid(), signal.SIGTERM)
    return perform(claim)

engine = MainThreadEngine(
    SystemClock(), perform=terminate, report=reports.append, begun=int, outlast=reports.append
)
with engine.undisturbed():
    engine.submit(make_claim("nap", 60.0))
    write(f"recorded {reports[0].result.outcome.value}")
write("never")
"""


def run_program(text: str, *words: str) -> tuple[int, list[str]]:
    """Return the exit status of a program, and the lines that it has written."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM + text, *words]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, timeout=BOUND_S * 2, check=False
    )
    return done.returncode, done.stdout.splitlines()


def test_a_process_whose_run_resists_is_killed() -> None:
    """The end is recorded before that."""
    assert run_program(KILLED) == (-signal.SIGKILL, ["killed timed_out"])


def test_a_process_is_ended_by_sigterm_once_its_run_is_recorded() -> None:
    """As by the signal, where nobody handles it."""
    assert run_program(TERMINATED) == (-signal.SIGTERM, ["recorded interrupted"])


def test_a_run_that_forks_ends_its_child_when_it_returns_there() -> None:
    """The copy reports nothing, and the parent goes on."""
    assert run_program(FORKED, "returns") == (0, ["0", "reported 1"])


def test_sigterm_ends_a_process_that_the_application_has_forked() -> None:
    """At once: the run belongs to the parent."""
    expected = (0, [str(-signal.SIGTERM), "reported 1"])
    assert run_program(FORKED, "terminated") == expected
