"""The native thread through which the process of a worker uses the store.

Theory of operation
-------------------
A run that computes stops the hub of gevent, and a run in the main thread stops that. Its lease has
to be renewed all the same, so everything that concerns the store happens in one native thread:
taking runs, renewing their leases, recording their ends, and heartbeats. Threads and greenlets that
execute runs pass calls to it and wait (`pulse.worker.bells`).

An idle process sends a heartbeat in each third of a lease. A process that executes a run sends
heartbeats as often as those of the web server, so that it reads requests to stop the run.
"""

from __future__ import annotations

from _queue import Empty, SimpleQueue  # that of the module queue is gevent's in a patched process
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from pulse import events
from pulse.carrier.base import POSTING_MODES
from pulse.clock import SECOND, Span
from pulse.core.run import attempt_of
from pulse.errors import StoreError, StoreUnavailableError
from pulse.forks import ForkMark
from pulse.patching import native
from pulse.scheduler.completer import Completer
from pulse.scheduler.heartbeat import HEARTBEAT_INTERVAL, Heartbeat
from pulse.scheduler.reporter import Reporter
from pulse.store.backoff import BackOff, chance
from pulse.store.base import ReturnedRun
from pulse.store.steering import MemberReport
from pulse.worker.bells import make_bell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pulse.clock import Clock
    from pulse.core.run import AttemptKey, Claim, CompletedRun
    from pulse.store.base import HeartbeatResult, Member, Store
    from pulse.worker.bells import Bell

T = TypeVar("T")
_CHECK_EVERY: Span = SECOND
UNWANTED = "the greenlet of the worker that was to execute it was ended"
_LEAVE: Span = 5 * SECOND
"""How long a stop waits until what has ended is recorded."""


class WorkerParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of the process of a worker.

    Attributes:
        interrupt: interrupts a run in progress, for a reason; called in the native thread.
        watch: checks the runs in progress, and returns when it has to be called again, from now;
            called in the native thread.
        slots: how many runs the process executes at once.
        stops_runs: whether *interrupt* can stop a run.
        version: the release of pulse.

    """

    member: Member
    store: Store
    bus: events.EventBus
    clock: Clock
    interrupt: Callable[[Claim, str], None]
    watch: Callable[[Span], Span]
    slots: int = 1
    stops_runs: bool = False
    version: str = ""
    mark: ForkMark = msgspec.field(default_factory=ForkMark)


class StoreThread:
    """Calls the store for the threads or greenlets of one process."""

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._clock = parts.clock
        self._store = parts.store
        bus = parts.bus.until_fork(parts.mark)
        self._bus = bus
        self._completer = Completer(parts.store, bus, {})
        self._renewals = _Renewals(parts.store, parts.clock, parts.member.lease_us)
        self._reporter = Reporter(bus, parts.clock)
        self._heartbeat = Heartbeat(
            parts.member,
            self._renewals,
            completer=self._completer,
            reporter=self._reporter,
            bus=bus,
            interrupt=parts.interrupt,
        )
        self._back_off = BackOff(chance)
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._recorded: dict[AttemptKey, Bell] = {}
        self._leave_by: Span | None = None
        self._left = make_bell()
        self._has_left = False

    # What the threads and greenlets of the process call -----------------------------------

    def start(self) -> None:
        """Start the thread, which joins the store."""
        start_new_thread = native("_thread", "start_new_thread")
        start_new_thread(self._run, ())  # type: ignore[operator] # its type is not known

    def call(self, call: Callable[[Store], T]) -> T:
        """Return what *call* returns for the store.

        Raises:
            StoreUnavailableError: the store does not answer, or this process leaves it.

        """
        pending: _Call[T] = _Call(call, self._store, make_bell())
        self._calls.put(lambda: self._answer(pending))
        while not pending.bell.wait(_CHECK_EVERY):
            if self._has_left:
                raise StoreUnavailableError(f"{self._store.name}: this worker has left it")
        return pending.value()

    def track(self, claim: Claim, good_until: Span) -> None:
        """Renew the lease of a run that this process has taken; called within `call`."""
        self._completer.track([claim])
        self._renewals.good_until[attempt_of(claim)] = good_until
        # An idle process sends few heartbeats; requests to stop the run are read by them.
        self._heartbeat.hasten(self._clock.boot() + HEARTBEAT_INTERVAL)

    def is_valid(self, claim: Claim) -> bool:
        """Return whether the lease of a run has not ended; callable in every thread."""
        return self._clock.boot() < self._renewals.good_until.get(attempt_of(claim), 0)

    def is_worker(self, holder: str) -> bool:
        """Return whether a process executes runs itself, as far as the last heartbeat knows."""
        mode = self._renewals.modes.get(holder)
        return mode is not None and mode not in POSTING_MODES

    def leave(self, claim: Claim) -> None:
        """Give a run back that has not begun, since this worker stops."""
        self._calls.put(lambda: self.give_back(claim, "the worker that had taken it stopped"))

    def give_back(self, claim: Claim, reason: str) -> None:
        """Give a run back that has not begun, once the store answers; called within `call`."""
        self._completer.track([claim])
        self._completer.returned.append(ReturnedRun(claim, 0, reason))

    def leave_taken(self, taken: Sequence[Claim]) -> None:
        """Give back what a call before this one has added to *taken*: nothing waits for it."""

        def give_back() -> None:
            for one in taken:
                self.give_back(one, UNWANTED)

        self._calls.put(give_back)

    def record(self, completed_run: CompletedRun, recorded: Bell) -> None:
        """Record the end of a run, until the process ends; *recorded* is rung once it is."""

        def put() -> None:
            self._recorded[attempt_of(completed_run.claim)] = recorded
            self._completer.put(completed_run)

        self._calls.put(put)

    def wait_until_recorded(self, recorded: Bell) -> None:
        """Wait for the record of an end, no longer than a lease: runs wait for the slot."""
        recorded.wait(self._parts.member.lease_us)

    def record_now(self, completed_run: CompletedRun) -> None:
        """Record the end of a run, since this process ends; called in the native thread."""
        self._completer.put(completed_run)
        with suppress(StoreError):
            self._completer.flush()

    def wake(self) -> None:
        """Let the thread check the runs in progress now."""
        self._calls.put(None)

    def stop(self) -> None:
        """Record what has ended, and leave the store."""
        self._calls.put(self._begin_to_leave)
        self._left.wait(2 * _LEAVE)

    def _begin_to_leave(self) -> None:
        self._leave_by = self._clock.boot() + _LEAVE

    # The thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._may_leave():
                pause = min(self._turn(), self._watch())
                if self._parts.mark.in_child:
                    return
                self._serve_calls(pause)
            self._store.close()
        # The process ends here, whatever state the store is in: others find that it is gone.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._bus.emit(events.SchedulerError(error))
        finally:
            self._has_left = True
        self._left.ring()

    def _watch(self) -> Span:
        """Check the runs in progress; an error there must not end the thread."""
        try:
            return self._parts.watch(self._clock.boot())
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._reporter.scheduler_error(error)
            return _CHECK_EVERY

    def _may_leave(self) -> bool:
        by = self._leave_by
        return by is not None and (not self._completer.busy or self._clock.boot() >= by)

    def _serve_calls(self, pause: Span) -> None:
        """Make the next call, when one comes within *pause*, and all others that have come."""
        wait: float | None = max(pause, 0) / SECOND
        try:
            while True:
                call = self._calls.get(True, wait) if wait else self._calls.get_nowait()
                wait = None
                if call is not None:
                    call()
        except Empty:
            return

    def _answer(self, pending: _Call[T]) -> None:
        try:
            if not self._heartbeat.started:
                self._join()
            pending.make()
        except StoreUnavailableError as error:
            pending.error = error
            self._heartbeat.repeat()
            self._reporter.store_unavailable(error)
        except Exception as error:  # noqa: BLE001 - raised again in the caller
            pending.error = error
        pending.bell.ring()

    def _turn(self) -> Span:
        """Record, renew and send a heartbeat where that is due; return when to do it again."""
        began = self._clock.boot()
        try:
            if not self._heartbeat.started:
                self._join()
            if self._completer.has_work:
                self._completer.flush()
                self._ring_recorded()
            now = self._clock.boot()
            interval = HEARTBEAT_INTERVAL if self._completer.busy else self._parts.member.lease_us
            if now >= self._heartbeat.next_at and self._heartbeat.begin(now, interval=interval):
                self._heartbeat.send()
            if self._reporter.failing and self._reporter.store_recovered():
                self._back_off.reset()
        except StoreUnavailableError as error:
            self._heartbeat.repeat()
            self._reporter.store_unavailable(error)
        # One bad turn must not end the thread: the error is reported, and the next turn comes.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._heartbeat.repeat()  # a turn without a call of the store would count as a success
            self._reporter.scheduler_error(error)
        else:
            return self._heartbeat.next_at - self._clock.boot()
        return self._back_off.wait(self._clock.boot() - began)

    def _join(self) -> None:
        self._store.open_as_worker(self._parts.member, report=self._report)
        self._heartbeat.start(self._clock.boot())

    def _report(self) -> MemberReport:
        return MemberReport(
            version=self._parts.version,
            server=self._parts.member.mode,
            slots=self._parts.slots,
            used=self._completer.claim_count,
            stops_runs=self._parts.stops_runs,
        )

    def _ring_recorded(self) -> None:
        held = {attempt_of(claim) for claim in self._completer.in_progress()}
        for ident in self._renewals.good_until.keys() - held:
            del self._renewals.good_until[ident]
        for ident in self._recorded.keys() - held:
            self._recorded.pop(ident).ring()


class _Renewals:
    """The calls of the heartbeat, which note until when the renewed leases are valid."""

    def __init__(self, store: Store, clock: Clock, lease_us: Span) -> None:
        self._store = store
        self._clock = clock
        self._lease_us = lease_us
        self.good_until: dict[AttemptKey, Span] = {}
        self.modes: dict[str, str] = {}

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        began = self._clock.boot()
        renewed = self._store.renew(claims)
        for claim, done in zip(claims, renewed, strict=True):
            if done:
                self.good_until[attempt_of(claim)] = began + self._lease_us
        return renewed

    def heartbeat(self) -> HeartbeatResult:
        beat = self._store.heartbeat()
        self.modes = {one.holder: one.mode for one in beat.members}
        return beat


class _Call(Generic[T]):
    """A call of the store, and what it returned or raised."""

    def __init__(self, call: Callable[[Store], T], store: Store, bell: Bell) -> None:
        self._call = call
        self._store = store
        self._values: list[T] = []
        self.bell = bell
        self.error: BaseException | None = None

    def make(self) -> None:
        self._values.append(self._call(self._store))

    def value(self) -> T:
        if self.error is not None:
            raise self.error
        return self._values[0]
