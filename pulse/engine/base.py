"""The interface of engines, which run the scheduler's loop and the runs.

Theory of operation
-------------------
An engine gives the scheduler three things, all of them threads or all of them greenlets: its loop,
a sleep that can be cut short, and slots in which runs happen side by side.

    scheduler loop --submit(claim)--> slot: result = perform(claim) --report(CompletedRun)--> loop

What every engine promises:

1. Nothing exists before `start`: no thread, lock, event or child process. So an engine may be
   built before a fork and started after it.
2. `free` is how many claims `submit` takes now without waiting; the loop asks the store for no
   more than that, so no claim waits in a queue while its lease runs.
3. Each submitted claim is reported exactly once, whatever the app does; an engine that executes
   nothing itself passes each claim to `posted` or to `returned` instead. `perform` turns an
   exception of the app into a result, and the slot turns any `BaseException` that leaves `perform`
   into one. A slot that dies is replaced.
4. A run past its `timeout_us` is interrupted if the engine can do that: the slot raises an
   `Interruption` inside the run. The interruption names the claim, so that it is never mistaken for
   an exception of the app and never ends the next claim. A run that cannot be interrupted is passed
   to `overdue`, its slot is free for others, and it is reported `timed_out` when it ends. A run
   that ends by itself after its timeout is `timed_out` too.
5. `stop(drain_us)` refuses new claims, lets runs in progress end for that long, then interrupts the
   others as `interrupted`, and returns once every run that can end has ended and been reported. It
   is safe to call twice, and from any thread or greenlet but a slot's own. A run that cannot be
   ended is reported too (`timed_out` if it was past its timeout), and its late result is dropped. A
   claim submitted after the stop is reported `interrupted`, never run.
   `Engine.loop` works until the process ends: the loop has to record.
6. The store is called through `Engine.loop.offload`, so that a blocking call stalls no hub,
   and never from a slot: a greenlet that may be killed must not hold a database connection.
7. `forked` is called in a forked child, where the engine is a copy (`pulse.forks`), at any time and
   by any thread or greenlet. It neither waits nor switches. After it the copy performs, interrupts
   and reports no claim that was submitted before, and ends no process. If the application forked
   during a run, the slot of that run ends when the run returns in the child.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Span
    from pulse.core.run import Claim, CompletedRun, Outcome, Result
    from pulse.events import Event

T = TypeVar("T")


class Interruption(BaseException):
    """Raised inside a run by its engine; *claim* names the run that is meant, *reason* says why."""

    def __init__(self, claim: Claim, outcome: Outcome, reason: str = "") -> None:
        self.claim = claim
        self.outcome = outcome
        self.reason = reason
        super().__init__(reason or outcome.value)


class InterruptSupport(NamedTuple):
    """Which runs an engine can stop: a run that waits, and a run that computes."""

    waiting: bool
    computing: bool


class EngineCallbacks(NamedTuple):
    """The functions of the scheduler that an engine calls.

    Attributes:
        perform: runs a claim and returns its result; raises only an `Interruption` of that claim.
        report: takes each completed run, from any thread or greenlet; never raises.
        overdue: called once for a run that passed its timeout and cannot be stopped, with the
            number of such runs that are left behind.
        posted: takes a claim whose run was sent to the workers of a queue, how long it may wait
            there, and the name of the queue; only for engines that execute nothing themselves.
        returned: takes a claim that could not be sent, after which time the run may be claimed
            again, and why, as a part of a sentence.
        emit: takes events.

    """

    perform: Callable[[Claim], Result]
    report: Callable[[CompletedRun], None]
    overdue: Callable[[Claim, int], None]
    posted: Callable[[Claim, Span, str], None] = lambda _, __, ___: None
    returned: Callable[[Claim, Span, str], None] = lambda _, __, ___: None
    emit: Callable[[Event], None] = lambda _: None


class LoopDriver(Protocol):
    """Runs the scheduler's loop, and lets it sleep and call the store without stalling others.

    `wait` returns when `wake` was called since the last `wait` returned, or when the time is over;
    a wake-up is never lost. `wake` may be called from any slot or thread, and costs little.
    """

    def spawn(self, loop: Callable[[], None]) -> None:
        """Run *loop* in a thread or greenlet of its own; it must not keep the process alive."""

    def join(self, timeout_us: Span) -> bool:
        """Wait for the loop to return; False when it has not within the time."""

    def wait(self, timeout_us: Span) -> None:
        """Let the loop sleep until `wake`, or for the given time."""

    def wake(self) -> None:
        """End the loop's sleep, or keep the next one from beginning."""

    def offload(self, call: Callable[[], T]) -> T:
        """Return what *call* returns, without stalling other threads or greenlets."""


class Engine(Protocol):
    """Runs claims side by side, and the scheduler's loop beside them."""

    name: str
    interrupts: InterruptSupport
    default_concurrency: int
    """How many runs are in progress at once in a process where the setting is left out."""

    @property
    def loop(self) -> LoopDriver:
        """What runs the scheduler's loop; usable from `start` until the process ends."""

    def start(self, work: EngineCallbacks, *, concurrency: int) -> None:
        """Make the slots.

        Raises:
            EngineError: the engine cannot run in this process.

        """

    def free(self) -> int:
        """Return how many claims may be submitted now."""

    def submit(self, claim: Claim) -> None:
        """Hand a claim to a free slot."""

    def interrupt(self, claim: Claim, reason: str) -> None:
        """Interrupt a run in progress, as `stop` does, if the engine can; may be called again.

        A claim that is not in progress is no error.
        """

    def stop(self, drain_us: Span) -> None:
        """End the slots: drain, then interrupt; see promise 5."""

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a forked child; see promise 7."""
