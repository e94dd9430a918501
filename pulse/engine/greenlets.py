"""The engine of greenlets: long-lived worker greenlets in the hub of the server itself.

Theory of operation
-------------------
`submit` queues a claim and schedules one callback of the hub, the pump. The pump switches into idle
greenlets, which perform the queued claims; a greenlet that has ended a run takes the next claim
without a switch.

    submit --> queue --pump, in the hub--> idle greenlet: run, run, ... --> idle

The pump stops after `MAX_PUMP_TIME`, so that the hub reads its sockets between runs, and resumes
in the next round of the hub's event loop. An interruption is thrown by a callback of the hub too:
only there is it certain which claim a greenlet runs at that moment.
"""

from __future__ import annotations

from collections import deque
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import Event

from pulse.clock import SECOND
from pulse.core.run import CompletedRun, Outcome
from pulse.engine.base import Interruption, InterruptSupport
from pulse.engine.gevent_bridge import call_in_hub
from pulse.engine.hub_loop import HubLoop
from pulse.engine.in_flight import NEVER, InFlight, InFlightRun
from pulse.errors import EngineError
from pulse.forks import ForkMark
from pulse.patching import process_is_patched

if TYPE_CHECKING:
    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.engine.base import EngineCallbacks

MAX_PUMP_TIME: Final[Span] = SECOND // 200
"""How long runs follow one another before the hub serves requests again."""

GRACE: Final[Span] = SECOND // 2
"""How long an interrupted run may take to clean up before its slot is free for others."""


class GreenletEngine:
    """Runs claims in greenlets, and interrupts those that wait."""

    name = "gevent"
    interrupts: InterruptSupport = InterruptSupport(waiting=True, computing=False)
    default_concurrency = 10

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._in_flight = InFlight(0)
        self.loop: HubLoop = HubLoop()
        self._started = self._ending = self._pumping = False
        self._waiting: deque[InFlightRun] = deque()
        self._submitted_at = self._seen_at = self._yield_at = 0
        self._greenlets: dict[InFlightRun, gevent.Greenlet] = {}
        self._idle: dict[gevent.Greenlet, None] = {}
        self._mark = ForkMark()
        self._kept: tuple[object, ...] = ()

    # Start and stop -----------------------------------------------------------------------

    def start(self, work: EngineCallbacks, *, concurrency: int) -> None:
        """Use the hub of this thread; greenlets are made when they are first needed.

        Raises:
            EngineError: gevent has not patched this process, so the app would block the hub.

        """
        if not process_is_patched():
            raise EngineError("mode gevent: expected a process patched by gevent, got another")
        self._work = work
        self._hub = gevent.get_hub()
        self.loop.open(self._hub)
        self._alarm, self._drained, self._stopped = (Event() for _ in range(3))
        self._next_round = self._hub.loop.timer(0)
        self._in_flight = InFlight(concurrency)
        self._watcher = gevent.spawn(self._watch)
        self._started = True

    def stop(self, drain_us: Span) -> None:
        """Let runs end for that long, then interrupt the others; see promise 5 of the interface."""
        if not self._started:
            return
        if gevent.get_hub() is not self._hub:
            call_in_hub(self._hub, partial(self.stop, drain_us))
            return
        if not self._ending:
            self._ending = True
            gevent.spawn(self._end, drain_us)
        elif not self._stopped.wait(drain_us / SECOND):
            self._drained.set()  # a second stop with a shorter drain cuts the first drain short
        self._stopped.wait()

    def _end(self, drain_us: Span) -> None:
        self._in_flight.open = False
        self._await_drained(drain_us)
        self._interrupt_all()
        self._await_drained(GRACE)
        self._waiting.clear()
        for attempt in self._in_flight.remove_all():
            self._work.report(attempt.unfinished(self._clock))
        gevent.killall([*self._idle, self._watcher], block=False)
        self._stopped.set()

    def interrupt(self, claim: Claim, reason: str) -> None:
        """Interrupt a run in progress; called in the thread of the hub."""
        for attempt in self._in_flight.active - self._in_flight.overdue:
            if attempt.claim is claim:
                self._hub.loop.run_callback(self._interrupt, attempt, Outcome.INTERRUPTED, reason)

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a forked child.

        Timers and callbacks of the hub that still fire in the child find no work. The greenlets are
        kept: gevent ends a greenlet without references, wherever the application waits in it.
        """
        self._mark.set()
        self._kept = (*self._kept, self._greenlets, self._idle)
        self._in_flight, self._waiting = InFlight.closed(), deque()
        self._greenlets, self._idle = {}, {}

    def _await_drained(self, span: Span) -> None:
        self._drained.clear()
        if self._in_flight.within_time():
            self._drained.wait(span / SECOND)

    def _interrupt_all(self) -> None:
        for attempt in self._in_flight.active - self._in_flight.overdue:
            self._hub.loop.run_callback(self._interrupt, attempt, Outcome.INTERRUPTED)

    # The slots ----------------------------------------------------------------------------

    def free(self) -> int:
        """Return how many claims may be submitted now."""
        return self._in_flight.free()

    def submit(self, claim: Claim) -> None:
        """Queue a claim for an idle greenlet, which takes it in the hub's next round."""
        if not self._pumping:
            self._submitted_at = (
                self._clock.boot()
            )  # one clock reading for all claims that the pump finds
        attempt = InFlightRun(claim, self._submitted_at)
        if not self._in_flight.open:
            self._work.report(attempt.unfinished(self._clock))
            return
        self._in_flight.add(attempt)
        self._waiting.append(attempt)
        if not self._pumping:
            self._pumping = True
            self._hub.loop.run_callback(self._pump)

    def _pump(self) -> None:
        """Switch into idle greenlets until no claim is queued or `MAX_PUMP_TIME` is over.

        Runs in the hub, as a callback: `switch` returns here as soon as the greenlet waits, because
        a greenlet that waits switches to the hub. `_seen_at` is read by the greenlets too, which
        set it after each run: so most claims need no clock reading of their own.
        """
        self._pumping = False
        self._seen_at = self._clock.boot()
        self._yield_at = self._seen_at + MAX_PUMP_TIME
        while self._waiting:
            if self._seen_at >= self._yield_at:
                self._pump_after_requests()
                return
            self._next_greenlet().switch()
            self._seen_at = self._clock.boot()

    def _pump_after_requests(self) -> None:
        """Pump again after the hub has read its sockets; a callback would run before that."""
        self._pumping = True
        # A raw timer may fire early, but never before the next round, and only the round matters.
        self._next_round.start(self._pump)

    def _next_greenlet(self) -> gevent.Greenlet:
        if self._idle:
            return self._idle.popitem()[0]
        return gevent.Greenlet(self._serve)

    def _serve(self) -> None:
        greenlet = gevent.getcurrent()
        while self._run_queued(greenlet):
            if not self._wait_idle(greenlet):
                return

    def _run_queued(self, greenlet: gevent.Greenlet) -> bool:
        """Perform queued claims; return False after an interruption, which ends this greenlet."""
        while self._waiting and self._seen_at < self._yield_at:
            attempt = self._waiting.popleft()
            self._run_claim(attempt, greenlet)
            if attempt.stopped is not None or self._mark.in_child:
                return False
        return True

    def _wait_idle(self, greenlet: gevent.Greenlet) -> bool:
        """Wait until the pump switches here; return False when this greenlet was killed."""
        self._idle[greenlet] = None
        while greenlet in self._idle:
            try:
                self._sleep()
            except gevent.GreenletExit:
                self._idle.pop(greenlet, None)
                return False
            # The app left it behind, for example its own gevent timeout; it concerns no run.
            except BaseException:  # noqa: BLE001, S112 - the reason is above
                continue
        return True

    def _sleep(self) -> None:
        self._hub.switch()

    def _run_claim(self, attempt: InFlightRun, greenlet: gevent.Greenlet) -> None:
        claim = attempt.claim
        if self._in_flight.begin(attempt, self._seen_at):
            self._alarm.set()
        self._greenlets[attempt] = greenlet
        try:
            result = Context().run(self._work.perform, claim)
        # Any exception that leaves the run is how it failed; see promise 3 of `pulse.engine.base`.
        except BaseException as error:
            if self._mark.ends_child(error):
                raise
            result = attempt.result_of(error, self._clock)
        # No switch happens between the end of the run and this line: no interruption comes later.
        self._greenlets.pop(attempt, None)  # absent where this is a copy, in a forked child
        self._seen_at = now = self._clock.boot()
        if self._in_flight.remove(attempt):
            self._work.report(CompletedRun(claim, attempt.final_result(result, now)))
        if not self._in_flight.open:
            self._signal_drained()

    def _interrupt(self, attempt: InFlightRun, outcome: Outcome, reason: str = "") -> None:
        """Throw the interruption into the run, if it is still in progress; called in the hub."""
        greenlet = self._greenlets.get(attempt)
        if greenlet is not None:
            attempt.stopped = outcome
            greenlet.throw(Interruption(attempt.claim, outcome, reason))

    def _signal_drained(self) -> None:
        if not self._in_flight.within_time():
            self._drained.set()

    # The watch ----------------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            self._alarm.wait(self._until_next())
            self._alarm.clear()
            for attempt in self._in_flight.due(self._clock.boot()):
                self._interrupt_late(attempt)

    def _until_next(self) -> float | None:
        next_at = self._in_flight.next_at
        return None if next_at == NEVER else max(0, next_at - self._clock.boot()) / SECOND

    def _interrupt_late(self, attempt: InFlightRun) -> None:
        """Interrupt a run that is past its timeout; leave it behind if that did not end it."""
        if attempt.stopped is None:
            attempt.watch_at = self._clock.boot() + GRACE
            self._in_flight.watch(attempt)
            self._hub.loop.run_callback(self._interrupt, attempt, Outcome.TIMED_OUT)
        else:
            self._work.overdue(attempt.claim, self._in_flight.leave_behind(attempt))
            self._signal_drained()
