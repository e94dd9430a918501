"""The check that fails a unit test which leaves threads of pulse running."""

from __future__ import annotations

import threading

from pulse.engine.loop_thread import spawn
from tests.support.leaked_threads import leaked_threads, pulse_threads


def test_a_thread_of_pulse_that_still_runs_is_reported_by_its_name() -> None:
    """It is reported until it ends."""
    before = pulse_threads()
    end = threading.Event()
    spawn(lambda: end.wait() and None, "pulse-loop")

    running = leaked_threads(before, wait_s=0)
    end.set()

    assert running == ["pulse-loop"]
    assert leaked_threads(before, wait_s=10) == []


def test_a_thread_that_ran_before_the_test_is_not_reported() -> None:
    """A fixture of a larger scope may own it."""
    end = threading.Event()
    spawn(lambda: end.wait() and None, "pulse-loop")

    assert leaked_threads(pulse_threads(), wait_s=0) == []
    end.set()


def test_a_thread_of_another_name_is_not_reported() -> None:
    """Only pulse's own threads count."""
    before = pulse_threads()
    end = threading.Event()
    spawn(lambda: end.wait() and None, "other")

    assert leaked_threads(before, wait_s=0) == []
    end.set()
