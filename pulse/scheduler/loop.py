"""The loop of one process: record ended runs, keep leases, claim what is due, submit the claims.

Theory of operation
-------------------
`step` does one turn and can be called by hand; `start` runs turns in the loop of the engine. A turn

1. records the runs that have ended (`Completer`);
2. renews leases and sends a heartbeat, if their deadlines have passed (`Heartbeat`);
3. claims what is due and submits it to the engine, unless the turn was needed only for step 1 and
   nothing can have become claimable (`NextClaim`, `Completer`);
4. sleeps until the next instant of work that the store knows, the next heartbeat, or a wake-up: by
   the end of a run, or by a call of the application that changes the store.

Only `stop` ends the loop. An outage of the store and any unexpected error are reported when they
begin, when their reason changes and when they end; an outage is reported every five minutes too.
The next turn comes after a back-off, and begins with a heartbeat, which writes: an outage is over
when a whole turn has succeeded, in which the store was written.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from pulse import events
from pulse.clock import SECOND
from pulse.core.policies import Scope
from pulse.engine.base import EngineCallbacks
from pulse.errors import StoreUnavailableError
from pulse.forks import ForkMark
from pulse.scheduler.completer import Completer
from pulse.scheduler.condition import State, condition_of
from pulse.scheduler.deferral import Deferral
from pulse.scheduler.heartbeat import HEARTBEAT_INTERVAL, Heartbeat
from pulse.scheduler.poll_delay import MAX_SLEEP, NextClaim
from pulse.scheduler.reporter import Reporter
from pulse.store.backoff import BackOff, chance
from pulse.store.base import PostedRun, ReturnedRun
from pulse.store.rules import partition_of
from pulse.store.steering import MemberReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim, CompletedRun, Result, Run
    from pulse.core.task import TaskDefinition
    from pulse.engine.base import Engine
    from pulse.scheduler.condition import Condition
    from pulse.scheduler.host_look import HostLook
    from pulse.store.base import Claimed, Look, Member, Store

MAX_UNINTERRUPTED_SLEEP: Span = 2_000
"""The end of a run does not cut a sleep of up to this length short: ends are recorded together."""

_JOIN: Span = 5 * SECOND
_CLAIM_S = 1.0
"""How many seconds a stop waits for a claim in progress: its runs belong to the drain."""


class SchedulerParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a scheduler; built by `pulse.runtime`, once for each process.

    Attributes:
        store: called directly: one that blocks is an `OffloadedStore`.
        perform: runs a claim to its result; called by the engine.
        name: `pulse.config.name`.
        chosen: whether the configuration names the store.
        serving: returns whether the server still lets this process accept new work.
        mark: set in forked children, whose copy of the scheduler is inactive.
        host_look: lets one process of the host look at the store for all; None for each by itself.
        version: the release of pulse.
        server: the server that runs this process.

    """

    definitions: Mapping[str, TaskDefinition]
    member: Member
    store: Store
    engine: Engine
    bus: events.EventBus
    clock: Clock
    perform: Callable[[Claim], Result]
    concurrency: int
    name: str = ""
    chosen: bool = False
    serving: Callable[[], bool] = lambda: True
    mark: ForkMark = msgspec.field(default_factory=ForkMark)
    host_look: HostLook | None = None
    version: str = ""
    server: str = ""


class Scheduler:
    """Runs the tasks of one process, as a member of the fleet."""

    def __init__(self, parts: SchedulerParts) -> None:
        self._parts = parts
        self.store: Store = parts.store
        self._engine = parts.engine
        self._mark = parts.mark
        self._bus = bus = parts.bus.until_fork(parts.mark)
        self.clock: Clock = parts.clock
        self._clock = parts.clock
        self._completer = Completer(parts.store, bus, parts.definitions)
        self._reporter = Reporter(bus, parts.clock, name=parts.name, chosen=parts.chosen)
        self._back_off = BackOff(chance)
        self._next_claim = NextClaim()
        self._heartbeat = Heartbeat(
            parts.member,
            parts.store,
            completer=self._completer,
            reporter=self._reporter,
            bus=bus,
            interrupt=parts.engine.interrupt,
        )
        self._deferral = _deferral_of(parts, self._report_self)
        self._lag: Span = 0
        self._stepped_at: Span = parts.clock.boot()
        self._wait_for_store_until: Span = 0
        self._sleep: Span = MAX_SLEEP
        self._state = State.NEW
        self._claiming = False
        self._claim_waiters: list[threading.Event] = []

    # What the owner does -----------------------------------------------------------------

    def open(self) -> None:
        """Start the engine's slots and join the store; after an outage the loop joins the store.

        Raises:
            EngineError: the engine cannot run here.
            StoreInUseError: another pulse of this process has the store.
            StoreSchemaError: the store belongs to another version.

        """
        with self._undo_on_error():
            work = EngineCallbacks(
                self._parts.perform,
                self._report,
                self._reporter.overdue,
                posted=self._post,
                returned=self._give_back,
                emit=self._reporter.of_engine,
            )
            self._engine.start(work, concurrency=self._parts.concurrency)
            try:
                self._join()
            except StoreUnavailableError as error:
                self._reporter.store_unavailable(error)

    def start(self) -> None:
        """Open, and run the loop beside the application; raises what `open` raises."""
        self.open()
        with self._undo_on_error():
            self._engine.loop.spawn(self._loop)

    @contextmanager
    def _undo_on_error(self) -> Iterator[None]:
        """Stop the slots and close the store if the start fails."""
        try:
            yield
        except BaseException:
            self._engine.stop(0)
            if State.NEW < self._state < State.CLOSED:
                self._leave()
            raise

    def _advance(self, state: State) -> None:
        """Move forward to *state*, unless the scheduler has come further already.

        The loop and those who stop it call this at the same time. Nothing between comparison and
        assignment lets another thread, greenlet or signal handler run.
        """
        self._state = max(self._state, state)

    def stop_claiming(self) -> None:
        """Claim nothing more; runs in progress continue."""
        self._advance(State.DRAINING)

    def stop(self, drain_us: Span) -> None:
        """Drain for that long, interrupt what is left, record all, and leave the store.

        The loop continues during the drain: leases are renewed, and ends are recorded.
        """
        self._advance(State.DRAINING)
        self._wait_for_store_until = self._clock.boot() + min(drain_us, _JOIN)
        self._let_claim_end()
        self._engine.stop(drain_us)
        self._advance(State.STOPPING)
        self._engine.loop.wake()
        if self._engine.loop.join(_JOIN):
            self.close()
        self._mark.outlast_forker()

    def forked(self) -> None:
        """Take no more part, and log nothing: this is a copy, in a forked child (`pulse.forks`)."""
        self._mark.set()
        self._state = State.CLOSED
        self.store.forked()
        self._engine.forked()

    def _let_claim_end(self) -> None:
        """Wait for a claim that is in progress, but not longer than a second."""
        # A signal handler may call this while its own thread is in here: so each call has an event
        # of its own, whose lock no other call waits for. The loop clears `_claiming` before it
        # sets the events, and this adds the event before it reads `_claiming`: none is overlooked.
        ended = threading.Event()
        self._claim_waiters.append(ended)
        if self._claiming:
            ended.wait(_CLAIM_S)

    def close(self) -> None:
        """Record the runs that are left and close the store; the loop calls this when it ends."""
        if self._state is State.CLOSED:
            return
        self._state = State.CLOSED
        if self._deferral is not None:
            self._deferral.close()
        self._back_off.reset()
        self._completer.drain(self._wait_for_store)
        self._leave()
        holder = self._parts.member.holder
        self._bus.emit(events.SchedulerStopped(holder, self._completer.interrupted))

    def _wait_for_store(self) -> bool:
        """Wait for the store, at most until the drain is over; return False when it is over."""
        pause = min(self._back_off.wait(), self._wait_for_store_until - self._clock.boot())
        if pause <= 0:
            return False
        self._engine.loop.wait(pause)
        return True

    def _leave(self) -> None:
        try:
            self.store.close()
        # The process ends here, whatever state the store is in: other members find that it is gone.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._bus.emit(events.SchedulerError(error))

    def wake(self) -> None:
        """Claim now rather than at the next instant of work."""
        self._next_claim.request()
        self._engine.loop.wake()

    def condition(self) -> Condition:
        """Return how this process is; the loop is in the step after the last one, or sleeps."""
        now, lost_at = self._clock.boot(), self._reporter.lost_at
        return condition_of(
            self._state,
            accepts=self._parts.serving(),
            in_step_for=now - self._stepped_at,
            lost_for=None if lost_at is None else now - lost_at,
            lease_us=self._parts.member.lease_us,
        )

    def emit(self, event: events.Event, passed: Iterable[Run] = ()) -> None:
        """Emit an event of the handle, and those of the fire times that the call missed."""
        self._bus.emit(event)
        self._reporter.not_run(passed)

    # The loop ----------------------------------------------------------------------------

    def _loop(self) -> None:
        while self._state < State.STOPPING:
            self._sleep = self.step()
            self._stepped_at = self._clock.boot()
            wakes_at = self._stepped_at + self._sleep
            self._engine.loop.wait(self._sleep)
            self._lag = max(self._lag, self._clock.boot() - wakes_at)
            self._sleep = MAX_SLEEP  # a run that ends during a step cuts the next sleep short
        self.close()

    def step(self) -> Span:
        """Do one turn; return how long to sleep after it. Errors are reported, not raised."""
        began = self._clock.boot()
        try:
            return self._until_takeover(began) or self._one_turn(began)
        except StoreUnavailableError as error:
            self._heartbeat.repeat()
            if self._deferral is not None:
                self._deferral.store_failed(self._clock.boot(), self._parts.member.lease_us)
            self._reporter.store_unavailable(error)
        # One bad turn must not end the loop: the error is reported, and the next turn comes.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._reporter.scheduler_error(error)
        return self._back_off.wait(self._clock.boot() - began)

    def _one_turn(self, began: Span) -> Span:
        if not self._heartbeat.started and not self._joins():
            return MAX_SLEEP  # asked to stop before it could join: nothing is to be recorded
        now, ended = began, self._completer.has_work
        if ended:
            if self._completer.flush():
                self._next_claim.expire()
            now = self._clock.boot()
        early, beats = 0 if self._deferral is None else self._deferral.early(now), False
        if now >= self._heartbeat.next_at - early:
            self._next_claim.expire()
            beats = self._begin_heartbeat(now, early=early)
            now = self._clock.boot()
        # A turn that was needed only to record ends claims nothing: no store has work before the
        # deadline of the last claim, unless an end, a heartbeat or the application made some.
        if ended and self._next_claim.idle(now):
            pause = self._next_claim.at - now
        else:
            now, pause = self._claim(now, beats=beats)
        if self._reporter.failing and self._reporter.store_recovered():
            self._back_off.reset()
        if self._completer.has_work:
            return 0
        return min(pause, max(self._heartbeat.next_at - now, 0))

    def _begin_heartbeat(self, now: Span, *, early: Span) -> bool:
        """Renew leases, and send a heartbeat that is due; return True if it goes with the claim."""
        deferral = self._deferral
        interval = HEARTBEAT_INTERVAL if deferral is None else deferral.interval(now)
        if not self._heartbeat.begin(now, early=early, interval=interval):
            return False
        if self._deferral is not None and not self._reporter.failing:
            return True
        self._heartbeat.send()
        return False

    def _report_self(self) -> MemberReport:
        """Return what this process says about itself; the next lag is counted from now on."""
        lag, self._lag = self._lag, 0
        return MemberReport(
            version=self._parts.version,
            server=self._parts.server,
            slots=self._parts.concurrency,
            used=self._completer.claim_count,
            lag_us=lag,
            stops_runs=self._engine.interrupts.waiting,
            silent_broker=self._reporter.silent_broker,
        )

    def _until_takeover(self, now: Span) -> Span:
        """Return how long another process of the host looks for this one; 0 if this one looks.

        Only an idle process lets another one look: it holds no claim, has won none lately, and no
        call of its application waits for a claim.
        """
        if (
            self._deferral is None
            or self._completer.busy
            or self._next_claim.requested
            or self._reporter.failing
            or self._state is not State.CLAIMING
            or not self._parts.serving()
        ):
            return 0
        return self._deferral.pause(now)

    def _joins(self) -> bool:
        """Join the store, unless the process was asked to stop before; return whether it has."""
        if self._state >= State.DRAINING:
            return False
        self._join()
        return True

    def _join(self) -> None:
        if self._state is State.NEW:
            self.store.open(self._parts.member, report=self._report_self)
            self._advance(State.OPEN)
            if self.store.notice:
                self._bus.emit(events.Notice(self.store.notice))
        synced = self.store.sync(self._parts.definitions)
        self._advance(State.CLAIMING)
        self._heartbeat.start(self._clock.boot())
        self._reporter.synced(synced)
        tasks = len(self._parts.definitions)
        self._reporter.started(self._parts.member, self.store, tasks, paused=synced.paused)

    def _report(self, completed_run: CompletedRun) -> None:
        self._completer.put(completed_run)
        self._wake_to_record()

    def _post(self, claim: Claim, wait: Span, queue: str) -> None:
        self._completer.posted.append(PostedRun(claim, wait, queue))
        self._wake_to_record()

    def _give_back(self, claim: Claim, delay: Span, reason: str) -> None:
        self._completer.returned.append(ReturnedRun(claim, delay, reason))
        self._wake_to_record()

    def _wake_to_record(self) -> None:
        if self._sleep > MAX_UNINTERRUPTED_SLEEP:
            self._engine.loop.wake()

    # Claiming ----------------------------------------------------------------------------

    def _claim(self, asked_at: Span, *, beats: bool = False) -> tuple[Span, Span]:
        """Claim what is due; return the boot clock after that, and how long to sleep then.

        With *beats* a heartbeat is due, which is sent in any case.
        """
        deferral = self._deferral
        # Set before the state is read: see `_let_claim_end`.
        self._claiming = True
        try:
            claiming = self._state is State.CLAIMING and self._parts.serving()
            limit = self._engine.free() if claiming else 0
            if limit <= 0:
                if beats:
                    self._heartbeat.send()
                return self._clock.boot(), MAX_SLEEP
            self._next_claim.begin()
            found = deferral.look(limit, asked_at) if beats and deferral is not None else None
            claimed = self._claimed_by(found, limit)
            # Before anything else that may fail: a claim that is not submitted ends as abandoned.
            self._submit(claimed.claims)
        finally:
            self._claiming = False
            for ended in self._claim_waiters:
                ended.set()
        self._report_claimed(claimed)
        now, shared = self._clock.boot(), self.store.reach is not Scope.PROCESS
        pause = self._next_claim.after(claimed, asked_at=asked_at, now=now, shared=shared)
        if deferral is None:
            return now, pause
        if found is not None:
            self._share(deferral, found, asked_at=asked_at, now=now)
        holds = self._completer.busy
        pause = deferral.claimed(claimed, pause, asked_at=asked_at, now=now, holds=holds)
        return now, pause

    def _claimed_by(self, found: Look | None, limit: int) -> Claimed:
        """Return what a look has claimed, or claim now.

        What the heartbeat of a look has written is reported before the claim that follows it.
        """
        if found is not None and found.claimed is not None:
            return found.claimed
        if found is not None:
            self._heartbeat.report(found.heartbeat)
        return self.store.claim_due(limit)

    def _share(self, deferral: Deferral, found: Look, *, asked_at: Span, now: Span) -> None:
        """Report the heartbeat of a look, and do what this process does for others of its host."""
        if found.claimed is not None:
            self._heartbeat.report(found.heartbeat)
        deferral.share(found, asked_at=asked_at)
        deferral.keep_others_alive(now, machines=self._heartbeat.machines)

    def _submit(self, claims: Sequence[Claim]) -> None:
        self._completer.track(claims)
        heard, submit = self._bus.has_listeners(events.RunClaimed), self._engine.submit
        for claim in claims:
            if heard:
                self._bus.emit(events.RunClaimed(claim))
            submit(claim)

    def _report_claimed(self, claimed: Claimed) -> None:
        if claimed.not_run:
            self._reporter.not_run(claimed.not_run)
        self._reporter.not_retried(claimed.expired_retries)
        for one in claimed.rewound:
            self._bus.emit(events.TaskRewound(one.task, one.partition, one.refused, one.next_fire))
        for task, error in claimed.failed_tasks:
            self._completer.forget_independent(task)
            self._reporter.task_failed(task, error)


def _deferral_of(parts: SchedulerParts, report: Callable[[], MemberReport]) -> Deferral | None:
    if parts.host_look is None:
        return None
    own = any(one.scope is Scope.PROCESS for one in parts.definitions.values())
    partition = partition_of(Scope.PROCESS, parts.member) if own else ""
    parts.host_look.report = report
    return Deferral(parts.host_look, parts.store, own_partition=partition)
