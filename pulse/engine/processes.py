"""The engine of `mode = processing`: runs happen in child processes, which can be ended.

Each slot is a thread, or a greenlet if gevent has patched the process, and owns at most one child.
A child is started for a slot's first claim, kept between runs, ended when its slot has been idle
for `IDLE`, and replaced after an interruption. A claim goes to the slot that became idle last, so
that a process with little work keeps one child, not all of them.
"""

from __future__ import annotations

import queue
import threading
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import SECOND
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.engine.base import InterruptSupport
from pulse.engine.child_process import (
    GRACE,
    ChildLostError,
    ChildProcess,
    ChildStarter,
    ChildTimeoutError,
    check_setup,
    find_python,
)
from pulse.engine.in_flight import InFlightRun
from pulse.engine.loop_thread import LoopThread, spawn
from pulse.forks import ForkMark

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.engine.base import EngineCallbacks
    from pulse.engine.child_protocol import ChildSetup

IDLE: Span = 60 * SECOND
"""How long a child may be idle before it is ended."""


class ProcessSlot:
    """Performs one claim at a time in its child; runs in a thread or greenlet."""

    def __init__(self, nursery: ChildStarter, clock: Clock, *, idle_us: Span) -> None:
        self._nursery = nursery
        self._clock = clock
        self._idle_us = idle_us
        self._claims: queue.SimpleQueue[Claim | None] = queue.SimpleQueue()
        self._child: ChildProcess | None = None
        self._interrupted = False
        self._claim: Claim | None = None
        self._stopped: Claim | None = None
        self._lock = threading.Lock()  # of a run's end, and of a request to stop it

    def assign(self, claim: Claim | None) -> None:
        """Queue the next claim; None ends the slot."""
        self._claims.put(claim)

    def serve(self, report: Callable[[ProcessSlot, CompletedRun], None]) -> None:
        """Perform the queued claims until None comes."""
        while (claim := self._next()) is not None:
            report(self, CompletedRun(claim, self._result_of(claim)))
        self._end_child()

    def interrupt(self) -> None:
        """Stop the run in progress; called once, when the engine stops."""
        self._interrupted = True
        if self._child is not None:
            self._child.interrupt()

    def interrupt_run(self, claim: Claim) -> None:
        """Stop the run of *claim* if it is in progress; the slot goes on with another child."""
        with self._lock:
            if self._claim is claim and self._stopped is not claim:
                self._stopped = claim
                if self._child is not None:
                    self._child.interrupt()

    def forked(self) -> None:
        """Leave the child to the parent: this is a copy, in a forked child."""
        if self._child is not None:
            self._child.forked()

    def _next(self) -> Claim | None:
        if self._child is None:
            return self._claims.get()
        try:
            return self._claims.get(timeout=self._idle_us / SECOND)
        except queue.Empty:
            self._end_child()
            return self._claims.get()

    def _result_of(self, claim: Claim) -> Result:
        attempt = InFlightRun(claim, self._clock.boot())
        with self._lock:
            self._claim = claim
        try:
            child = self._usable_child() or self._nursery.make(self._adopt)
            attempt = InFlightRun(claim, self._clock.boot())
            result = self._perform(child, attempt)
        except ChildLostError as lost:
            self._end_child()
            result = self._report_outcome(attempt, Outcome.FAILED, str(lost))
        # Any exception in the slot is how its run failed; see promise 3 of `pulse.engine.base`.
        except BaseException as error:  # noqa: BLE001 - the reason is above
            self._end_child()
            result = attempt.result_of(error, self._clock)
        with self._lock:
            self._claim = None
        if self._is_interrupted(claim):
            attempt.stopped = Outcome.INTERRUPTED
        if self._stopped is claim:
            self._end_child()
        # The child has measured the run: the time before the call is no part of it.
        return attempt.final_result(result, attempt.since)

    def _is_interrupted(self, claim: Claim) -> bool:
        return self._interrupted or self._stopped is claim

    def _usable_child(self) -> ChildProcess | None:
        if self._child is not None and not self._child.is_usable():
            self._end_child()
        return self._child

    def _adopt(self, child: ChildProcess) -> None:
        self._child = child
        if self._claim is not None and self._is_interrupted(self._claim):
            child.interrupt()

    def _perform(self, child: ChildProcess, attempt: InFlightRun) -> Result:
        if self._clock.boot() >= attempt.claim.good_until:
            result = self._report_outcome(attempt, Outcome.ABANDONED, _LEASE_OVER)
            return msgspec.structs.replace(result, was_dispatched=False)
        try:
            return child.perform(attempt.claim)
        except ChildTimeoutError:
            return self._result_of_lost(child, attempt)

    def _result_of_lost(self, child: ChildProcess, attempt: InFlightRun) -> Result:
        is_interrupted = self._is_interrupted(attempt.claim)
        outcome = Outcome.INTERRUPTED if is_interrupted else Outcome.TIMED_OUT
        last = None if is_interrupted else child.last_output()
        if last is not None:
            self._end_child()
            return msgspec.structs.replace(last, outcome=outcome)
        self._end_child(grace_us=0)
        return self._report_outcome(attempt, outcome, _SILENT)

    def _report_outcome(self, attempt: InFlightRun, outcome: Outcome, message: str) -> Result:
        took = self._clock.boot() - attempt.since
        return Result(outcome, self._clock.wall() - took, took, message=message)

    def _end_child(self, *, grace_us: Span = GRACE) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end(grace_us)


_LEASE_OVER = "the lease had ended before the call could begin, so it was not made"
_SILENT = f"the child process was silent for {GRACE // SECOND} s after SIGTERM, and was killed"


class ProcessEngine:
    """Runs claims in child processes, each of which has loaded the application.

    `EngineCallbacks.perform` is not called: each child has a runner of its own.

    Args:
        clock: measures timeouts.
        child: how a child finds the application.
        idle_us: how long a child may be idle before it is ended.

    """

    name = "processing"
    interrupts: InterruptSupport = InterruptSupport(waiting=True, computing=True)
    default_concurrency = 2

    def __init__(self, clock: Clock, *, child: ChildSetup, idle_us: Span = IDLE) -> None:
        self._clock = clock
        self._setup = child
        self._idle_us = idle_us
        self._mark = ForkMark()
        self.loop: LoopThread = LoopThread(self._mark)
        self._slots: dict[ProcessSlot, threading.Thread] = {}
        self._idle: list[ProcessSlot] = []
        self._taking = False

    def start(self, work: EngineCallbacks, *, concurrency: int) -> None:
        """Make the slots; the first claims start the children.

        Raises:
            EngineError: the setup does not name the application, or there is no Python interpreter.

        """
        check_setup(self._setup)
        find_python()
        self.loop.open()
        self._work = work
        self._state = threading.Condition()
        nursery = ChildStarter(self._setup, self._clock)
        for number in range(concurrency):
            slot = ProcessSlot(nursery, self._clock, idle_us=self._idle_us)
            life = partial(slot.serve, self._end)
            self._idle.append(slot)
            self._slots[slot] = spawn(life, f"pulse-slot-{number}")
        self._taking = True

    def free(self) -> int:
        """Return how many slots are idle."""
        return len(self._idle) if self._taking else 0

    def submit(self, claim: Claim) -> None:
        """Queue a claim in the slot that became idle last, which most likely has a child."""
        with self._state:
            if self._taking:
                self._idle.pop().assign(claim)
                return
        attempt = InFlightRun(claim, self._clock.boot())
        self._work.report(attempt.unfinished(self._clock))

    def stop(self, drain_us: Span) -> None:
        """Let runs end for that long, then interrupt them, and end every child."""
        if not self._slots:
            return
        with self._state:
            self._taking = False
            self._state.wait_for(self._all_idle, drain_us / SECOND)
            if self._mark.in_child:
                return
            left = [slot for slot in self._slots if slot not in self._idle]
        for slot in left:
            slot.interrupt()
        for slot in self._slots:
            slot.assign(None)
        for thread in self._slots.values():
            thread.join()

    def interrupt(self, claim: Claim, reason: str) -> None:  # noqa: ARG002 - the scheduler records it
        """Stop a run in progress, by ending its child."""
        for slot in self._slots:
            slot.interrupt_run(claim)

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a forked child.

        Slots that are greenlets continue here: they find no child, and start none.
        """
        self._mark.set()
        self._taking = False
        for slot in self._slots:
            slot.forked()

    def _end(self, slot: ProcessSlot, completed_run: CompletedRun) -> None:
        with self._state:
            self._idle.append(slot)
        if not self._mark.in_child:
            self._work.report(completed_run)
        with self._state:
            self._state.notify_all()

    def _all_idle(self) -> bool:
        return len(self._idle) == len(self._slots)
