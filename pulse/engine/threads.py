"""The engine of threads: daemon threads that are started when runs need them.

Claims wait in the order of their submission for a thread. The thread that was idle last is woken,
so that a process with little to do uses one thread, and what belongs to a thread (a database
connection, for example) is made once. A thread is started if none is idle and a slot is free. One
thread at a time is *called*, which means woken or started; when it takes its run it calls the next
one, if more runs wait. So a thread that ends short runs quickly takes several, without a change of
threads for each. A thread is idle before it reports its run, because the report may lead to the
next claim.

A thread cannot be stopped. A run past its timeout is reported as overdue, another thread takes its
slot, and the thread left behind ends with its run. In a process patched by gevent the same code
runs on greenlets, all of which `start` makes, as it makes every primitive: nothing does so before.
"""

from __future__ import annotations

import threading
from collections import deque
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Final

from pulse.clock import SECOND
from pulse.core.run import CompletedRun
from pulse.engine.base import InterruptSupport
from pulse.engine.in_flight import NEVER, InFlight, InFlightRun
from pulse.engine.loop_thread import LoopThread, spawn
from pulse.forks import ForkMark
from pulse.patching import process_is_patched

if TYPE_CHECKING:
    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.engine.base import EngineCallbacks

_EXIT_SIGNAL: Final = 1.0
"""How many seconds a stop waits for threads that have reported their last run to end."""


class _Worker:
    """A thread for runs: what wakes it when it is idle, whether it was started and is to end."""

    __slots__ = ("bell", "leaves", "started")

    def __init__(self) -> None:
        self.bell = threading.Lock()
        self.bell.acquire()
        self.started = False
        self.leaves = False


class ThreadEngine:
    """Runs claims in threads, whose timeouts it watches but cannot enforce."""

    name = "threading"
    interrupts: InterruptSupport = InterruptSupport(waiting=False, computing=False)
    default_concurrency = 10

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mark = ForkMark()
        self.loop: LoopThread = LoopThread(self._mark)
        self._in_flight = InFlight(0)
        self._started = False
        self._drain_s = 0.0
        self._idle: list[_Worker] = []
        self._waiting: deque[InFlightRun] = deque()
        self._called = False
        self._threads = 0
        self._alive = 0
        self._quota: int | None = None

    # Start and stop -----------------------------------------------------------------------

    def start(self, work: EngineCallbacks, *, concurrency: int) -> None:
        """Start the threads that watch the timeouts and the end; runs start the others."""
        self._work = work
        self._lock = threading.Lock()
        self._alarm = threading.Event()
        self._asked, self._drained, self._gone, self._stopped = (
            threading.Event() for _ in range(4)
        )
        self.loop.open()
        self._in_flight = InFlight(concurrency)
        self._started = True
        spawn(self._watch, "pulse-watch")
        spawn(self._end, "pulse-end")
        if process_is_patched():  # the start of a greenlet would switch to it within `submit`
            self._start_workers(concurrency)

    def stop(self, drain_us: Span) -> None:
        """Let runs end for that long; report the others `interrupted`, although they continue.

        A thread of the engine does the work: a second Ctrl-C may interrupt any line here, and must
        not leave the stop half done.
        """
        if not self._started:
            return
        again = self._asked.is_set()
        if not again:
            self._drain_s = drain_us / SECOND
        self._asked.set()
        if again and not self._stopped.wait(drain_us / SECOND):
            self._drained.set()
        self._stopped.wait()

    def interrupt(self, claim: Claim, reason: str) -> None:
        """Do nothing: a thread cannot be interrupted."""

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a forked child.

        A thread that does not exist in the child may hold the lock, so the copy gets another lock.
        Threads that are greenlets find no work in the child, and stay there (`ForkMark.stay`).
        """
        self._mark.set()
        self._lock = threading.Lock()
        self._waiting = deque()
        self._in_flight = InFlight.closed()

    def _end(self) -> None:
        self._asked.wait()
        with self._lock:
            self._in_flight.open = False
            busy = self._in_flight.within_time()
        if busy:
            self._drained.wait(self._drain_s)
        self._dismiss()
        self._stopped.set()
        self._mark.stay()

    def _dismiss(self) -> None:
        with self._lock:
            cut = self._in_flight.remove_all()
            self._quota = quota = sum(attempt.begun for attempt in cut)
            idle, self._idle = self._idle, []
            self._waiting.clear()
            alive = self._alive
        for attempt in cut:
            self._work.report(attempt.unfinished(self._clock))
        for worker in idle:
            worker.bell.release()
        self._alarm.set()
        if alive > quota:
            self._gone.wait(_EXIT_SIGNAL)

    # The slots ----------------------------------------------------------------------------

    def free(self) -> int:
        """Return how many claims may be submitted now."""
        return self._in_flight.free()

    def submit(self, claim: Claim) -> None:
        """Let a claim wait for the thread that was idle last, or for a new one."""
        attempt = InFlightRun(claim, self._clock.boot())
        called = None
        with self._lock:
            taken = self._in_flight.open
            if taken:
                self._in_flight.add(attempt)
                self._waiting.append(attempt)
                if not self._called:
                    called = self._next_to_call()
        if called is not None:
            self._call(called)
        if not taken:
            self._work.report(attempt.unfinished(self._clock))

    def _start_workers(self, number: int) -> None:
        for _ in range(number):
            with self._lock:
                worker = self._new_worker()
            if worker is not None:
                self._call(worker)

    def _next_to_call(self) -> _Worker | None:
        """Return the thread to call for the runs that wait; None if none is needed now."""
        if self._called or not self._waiting:
            return None
        if self._idle:
            self._called = True
            return self._idle.pop()
        return self._new_worker()

    def _new_worker(self) -> _Worker | None:
        """Return a thread to start if there is a slot for it."""
        if self._threads >= self._in_flight.capacity():
            return None
        self._called = True
        self._threads += 1
        self._alive += 1
        return _Worker()

    def _call(self, worker: _Worker) -> None:
        if worker.started:
            worker.bell.release()
            return
        worker.started = True
        try:
            spawn(partial(self._serve, worker), "pulse-run")
        except RuntimeError:  # the system starts no more threads
            self._do_without_thread()

    def _do_without_thread(self) -> None:
        """Keep the slot of a thread that could not be started taken; the other threads go on.

        Without any other thread the runs that wait are interrupted, and the next claim tries again.
        """
        interrupted: list[InFlightRun] = []
        with self._lock:
            self._called = False
            self._threads -= 1
            self._alive -= 1
            if self._threads:
                self._in_flight.cap = self._threads - self._in_flight.slots
            else:
                interrupted = [run for run in self._waiting if self._in_flight.remove(run)]
                self._waiting.clear()
        for attempt in interrupted:
            self._work.report(attempt.unfinished(self._clock))

    def _serve(self, worker: _Worker) -> None:
        attempt = self._first_run(worker)
        while not (self._mark.in_child or worker.leaves):
            if attempt is not None:
                attempt = self._run_claim(attempt, worker)
            else:
                worker.bell.acquire()
                attempt = self._first_run(worker)
        with self._lock:
            self._alive -= 1
            last = self._quota is not None and self._alive <= self._quota
        if last:
            self._gone.set()
        self._mark.stay()

    def _first_run(self, worker: _Worker) -> InFlightRun | None:
        """Return the run of a thread that was called; None if another thread has taken it."""
        with self._lock:
            self._called = False
            attempt = self._take(worker, self._clock.boot())
            called = self._next_to_call()
        if called is not None:
            self._call(called)
        return attempt

    def _take(self, worker: _Worker, now: Span) -> InFlightRun | None:
        """Return the next run of a thread, which begins; without one the thread is idle.

        A run that waits is in progress: what removes it from there does not let it wait either.
        """
        if self._quota is not None:
            self._leave(worker)
        elif self._waiting:
            attempt = self._waiting.popleft()
            if self._in_flight.begin(attempt, now):
                self._alarm.set()
            return attempt
        else:
            self._idle.append(worker)
        return None

    def _leave(self, worker: _Worker) -> None:
        self._threads -= 1
        worker.leaves = True

    def _run_claim(self, attempt: InFlightRun, worker: _Worker) -> InFlightRun | None:
        """Perform a run that has begun, report it, and return the thread's next one."""
        try:
            result = Context().run(self._work.perform, attempt.claim)
        # Any exception that leaves the run is how it failed; see promise 3 of `pulse.engine.base`.
        except BaseException as error:
            if self._mark.ends_child(error):
                self._signal_drained()
                raise
            result = attempt.result_of(error, self._clock)
        now = self._clock.boot()
        result = attempt.final_result(result, now)
        following = None
        with self._lock:
            mine = self._in_flight.remove(attempt)
            if attempt.stopped is not None and self._is_surplus():
                self._leave(worker)  # it was left behind, and another thread serves its slot
            else:
                following = self._take(worker, now)
        if mine:
            self._work.report(CompletedRun(attempt.claim, result))
        if not self._in_flight.open:
            self._signal_drained()
        return following

    def _is_surplus(self) -> bool:
        return self._threads > self._in_flight.capacity() and not self._waiting

    def _add_thread(self) -> None:
        """Start a thread for a slot that became free, so that `free` counts none without one."""
        with self._lock:
            worker = None if self._idle else self._new_worker()
        if worker is not None:
            self._call(worker)

    def _signal_drained(self) -> None:
        with self._lock:
            busy = self._in_flight.within_time()
        if not busy:
            self._drained.set()

    # The watch ----------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopped.is_set() and self._quota is None:
            self._alarm.wait(self._until_next())
            self._mark.stay()
            self._alarm.clear()
            self._leave_late_runs_behind()

    def _until_next(self) -> float | None:
        next_at = self._in_flight.next_at
        return None if next_at == NEVER else max(0, next_at - self._clock.boot()) / SECOND

    def _leave_late_runs_behind(self) -> None:
        with self._lock:
            late = self._in_flight.due(self._clock.boot())
            overdue = [(attempt.claim, self._in_flight.leave_behind(attempt)) for attempt in late]
        for claim, count in overdue:
            self._add_thread()
            self._work.overdue(claim, count)
        if overdue and not self._in_flight.open:
            self._signal_drained()
