"""The engine of threads: a fixed pool of daemon threads, fed from a queue.

A thread cannot be stopped. A run past its timeout is reported as overdue, another thread takes its
slot, and the thread left behind ends with its run. In a process patched by gevent the same code
runs on greenlets: `start` looks up and makes every primitive, nothing does so before.
"""

from __future__ import annotations

import queue
import threading
from contextvars import Context
from typing import TYPE_CHECKING, Final

from pulse.clock import SECOND
from pulse.core.run import CompletedRun
from pulse.engine.base import InterruptSupport
from pulse.engine.in_flight import NEVER, InFlight, InFlightRun
from pulse.engine.loop_thread import LoopThread, spawn
from pulse.forks import ForkMark

if TYPE_CHECKING:
    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.engine.base import EngineCallbacks

_EXIT_SIGNAL: Final = 1.0
"""How many seconds a stop waits for threads that have reported their last run to end."""


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
        self._threads = 0
        self._quota: int | None = None

    # Start and stop -----------------------------------------------------------------------

    def start(self, work: EngineCallbacks, *, concurrency: int) -> None:
        """Start the threads."""
        self._work = work
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[InFlightRun | None] = queue.SimpleQueue()
        self._alarm = threading.Event()
        self._asked, self._drained, self._gone, self._stopped = (
            threading.Event() for _ in range(4)
        )
        self.loop.open()
        self._in_flight = InFlight(concurrency)
        self._started = True
        spawn(self._watch, "pulse-watch")
        spawn(self._end, "pulse-end")
        for _ in range(concurrency):
            self._threads += 1
            spawn(self._serve, "pulse-run")

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

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a forked child.

        A thread that does not exist in the child may hold the lock, so the copy gets another lock.
        Threads that are greenlets find no work in the child, and stay there (`ForkMark.stay`).
        """
        self._mark.set()
        self._lock = threading.Lock()
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
            self._quota = sum(attempt.begun for attempt in cut)
            threads = self._threads
        for attempt in cut:
            self._work.report(attempt.unfinished(self._clock))
        for _ in range(threads):
            self._queue.put(None)
        self._alarm.set()
        if threads > self._quota:
            self._gone.wait(_EXIT_SIGNAL)

    # The slots ----------------------------------------------------------------------------

    def free(self) -> int:
        """Return how many claims may be submitted now."""
        return self._in_flight.free()

    def submit(self, claim: Claim) -> None:
        """Hand a claim to a waiting thread."""
        attempt = InFlightRun(claim, self._clock.boot())
        with self._lock:
            taken = self._in_flight.open
            if taken:
                self._in_flight.add(attempt)
        if not taken:
            self._work.report(attempt.unfinished(self._clock))
            return
        self._queue.put(attempt)

    def _serve(self) -> None:
        self._run_all()
        self._mark.stay()

    def _run_all(self) -> None:
        while not self._mark.in_child and (attempt := self._queue.get()) is not None:
            self._run_claim(attempt)
            if attempt.stopped is not None and self._leaves(unless_needed=True):
                return
        self._leaves(unless_needed=False)

    def _run_claim(self, attempt: InFlightRun) -> None:
        if not self._begin(attempt):
            return
        claim = attempt.claim
        try:
            result = Context().run(self._work.perform, claim)
        # Any exception that leaves the run is how it failed; see promise 3 of `pulse.engine.base`.
        except BaseException as error:
            if self._mark.ends_child(error):
                self._signal_drained()
                raise
            result = attempt.result_of(error, self._clock)
        result = attempt.final_result(result, self._clock.boot())
        with self._lock:
            mine = self._in_flight.remove(attempt)
        if mine:
            self._work.report(CompletedRun(claim, result))
        if not self._in_flight.open:
            self._signal_drained()

    def _begin(self, attempt: InFlightRun) -> bool:
        """Return whether the attempt is still to be performed; start its timeout if it is."""
        with self._lock:
            wanted = attempt in self._in_flight.active
            sooner = wanted and self._in_flight.begin(attempt, self._clock.boot())
        if sooner:
            self._alarm.set()
        return wanted

    def _leaves(self, *, unless_needed: bool) -> bool:
        """Count this thread out; with *unless_needed* only if another thread serves its slot."""
        with self._lock:
            if unless_needed and self._threads <= self._in_flight.capacity():
                return False
            self._threads -= 1
            last = self._quota is not None and self._threads <= self._quota
        if last:
            self._gone.set()
        return True

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
            self._replace()
            self._work.overdue(claim, count)
        if overdue and not self._in_flight.open:
            self._signal_drained()

    def _replace(self) -> None:
        with self._lock:
            if self._threads >= self._in_flight.capacity():
                return
            self._threads += 1
        try:
            spawn(self._serve, "pulse-run")
        except RuntimeError:  # the system starts no more threads: these slots stay occupied
            with self._lock:
                self._threads -= 1
                self._in_flight.cap = self._threads - self._in_flight.slots
