"""The engine of a worker's child process: one run at a time, in the main thread.

A run is interrupted by a signal, which another thread of the process sends to the main thread: it
ends a system call that waits, and Python code that computes. What resists, such as native code that
does not return, ends with its process: the other thread records the run as timed out and kills the
process, `GRACE` after the timeout. Native code that lets no other Python thread go on is ended by
the kernel, `LIMIT` after the timeout (`pulse.worker.deadline`); nothing can be recorded then, so
other processes find the run abandoned.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from pulse.clock import SECOND, Span
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.engine.base import Interruption, InterruptSupport
from pulse.engine.in_flight import InFlightRun
from pulse.forks import ForkMark, ForkSignals
from pulse.patching import native
from pulse.settings.converters import duration_text
from pulse.worker.deadline import KillTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pulse.clock import Clock
    from pulse.core.run import Claim

GRACE: Span = 1_500_000
LIMIT: Span = 2 * SECOND
"""How long a run may take to end after its timeout, before its process is killed or ended."""

AGAIN: Span = SECOND
"""When an interruption is repeated: an application may have caught it."""

NO_RUN: Span = 3_600 * SECOND

_SIGNAL = signal.SIGRTMIN
_STOPPED = "interrupted because the worker stops"


class MainThreadEngine:
    """Executes each claim in its caller, the main thread.

    Args:
        clock: measures timeouts.
        perform: runs a claim and returns its result.
        report: takes each completed run.
        begun: called when a run begins: from then on `watch` has to be called.
        outlast: takes a run whose process is to be killed, with its result; does not return.

    """

    interrupts: InterruptSupport = InterruptSupport(waiting=True, computing=True)

    def __init__(
        self,
        clock: Clock,
        *,
        perform: Callable[[Claim], Result],
        report: Callable[[CompletedRun], None],
        begun: Callable[[], None],
        outlast: Callable[[CompletedRun], None],
    ) -> None:
        self._clock = clock
        self._perform = perform
        self._report = report
        self._begun = begun
        self._outlast = outlast
        self._mark = ForkMark()
        self.fork_signals: ForkSignals = ForkSignals(_SIGNAL, signal.SIGTERM)
        # An application may let gevent patch the process, whose ids of threads are other ones.
        self._main: int = native("_thread", "get_ident")()  # type: ignore[operator] # its type is not known
        self._pid = os.getpid()
        self._kill_timer = KillTimer()
        self._attempt: InFlightRun | None = None
        self._calling: Claim | None = None
        self._stop: Interruption | None = None
        self._interrupt_at: Span = 0
        self._ending = False

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Let SIGTERM end the process after the block: interrupt the run, and record its end.

        The handlers are installed for the block, since Celery installs its own ones in each child
        after it has announced the child.
        """
        # This one stays: an interruption that comes late must not end the process.
        signal.signal(_SIGNAL, self._interrupted)
        before = signal.signal(signal.SIGTERM, self._terminated)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            if self._ending and not self._mark.in_child:
                signal.raise_signal(signal.SIGTERM)

    def submit(self, claim: Claim) -> None:
        """Perform *claim*, and report its end before returning."""
        attempt = InFlightRun(claim, self._clock.boot())
        if self._ending:
            self._report(attempt.unfinished(self._clock))
            return
        attempt.begun = True
        self._interrupt_at = attempt.deadline
        self._stop, self._attempt = None, attempt
        self._begun()
        try:
            self._kill_timer.start(claim.definition.timeout_us + LIMIT)
            try:
                self._calling = claim  # from here on the handlers raise
                result = self._perform(claim)
            finally:
                self._calling = None
                if not self._mark.in_child:  # which does not inherit the timer
                    self._kill_timer.stop()
        # Any exception that leaves the run is how it failed; see promise 3 of `pulse.engine.base`.
        except BaseException as error:  # noqa: BLE001 - the reason is above
            self._calling = None  # the handler may have raised before the line above
            if self._mark.ends_child(error):
                _end_copy(error)
            result = attempt.result_of(error, self._clock)
        self._attempt = None
        if self._mark.in_child:
            self._mark.outlast_forker()
            _end_copy(None)
        self._report(CompletedRun(claim, attempt.final_result(result, self._clock.boot())))

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a process that the app has forked."""
        self._mark.set()

    # Called in another thread -------------------------------------------------------------

    def interrupt(self, claim: Claim, reason: str) -> None:
        """Interrupt a run in progress; may be called again."""
        attempt = self._attempt
        if attempt is not None and attempt.claim is claim:
            attempt.stopped = attempt.stopped or Outcome.INTERRUPTED
            self._send(Interruption(claim, Outcome.INTERRUPTED, reason))

    def watch(self, now: Span) -> Span:
        """Interrupt a run that is past its timeout; return when to look again, from now."""
        attempt = self._attempt
        if attempt is None:
            return NO_RUN
        if now >= attempt.deadline + GRACE:
            self._outlast(CompletedRun(attempt.claim, self._killed(attempt)))
        if now >= self._interrupt_at:
            attempt.stopped = attempt.stopped or Outcome.TIMED_OUT
            self._interrupt_at = now + AGAIN
            self._send(Interruption(attempt.claim, Outcome.TIMED_OUT))
        return min(self._interrupt_at, attempt.deadline + GRACE) - now

    def _killed(self, attempt: InFlightRun) -> Result:
        timeout = duration_text(attempt.claim.definition.timeout_us)
        took = self._clock.boot() - attempt.since
        text = (
            f"went on for {duration_text(GRACE)} after its timeout of {timeout}, although it was"
            " interrupted; its process was killed"
        )
        return Result(Outcome.TIMED_OUT, self._clock.wall() - took, took, message=text)

    def _send(self, stop: Interruption) -> None:
        self._stop = stop
        signal.pthread_kill(self._main, _SIGNAL)

    # The handlers, in the main thread -----------------------------------------------------

    def _interrupted(self, _: int, __: FrameType | None) -> None:
        if self.fork_signals.defers(_SIGNAL):
            return
        stop, self._stop = self._stop, None
        if stop is not None and stop.claim is self._calling:
            raise stop

    def _terminated(self, _: int, __: FrameType | None) -> None:
        """Interrupt the run in progress; end a process that the application has forked."""
        if self._mark.in_child or os.getpid() != self._pid:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
            return
        if self.fork_signals.defers(signal.SIGTERM):
            return
        self._ending = True
        claim, attempt = self._calling, self._attempt
        if claim is not None and attempt is not None:
            attempt.stopped = attempt.stopped or Outcome.INTERRUPTED
            raise Interruption(claim, Outcome.INTERRUPTED, _STOPPED)


def _end_copy(error: BaseException | None) -> NoReturn:
    """End a process that the application has forked, in which its code returns to pulse.

    Without a word to the parent: what Celery does at the end of a child would concern the child
    that has forked.
    """
    status = getattr(error, "code", None)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the streams are the application's
            stream.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))
