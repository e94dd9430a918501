"""The loop of one process: record what ended, stay alive, claim what is due, hand it on.

`step` does one turn and can be called by hand; `start` runs it in a loop of the engine's flavour.
Nothing ends that loop but `stop`: an outage of the store, and any error that nobody foresaw, is
announced, and the loop goes on after a pause.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from pulse import events
from pulse.backoff import BackOff, chance
from pulse.clock import SECOND
from pulse.engine.base import EngineCallbacks
from pulse.errors import StoreUnavailableError
from pulse.forks import ForkMark
from pulse.scheduler.completer import Completer
from pulse.scheduler.poll_delay import ContentionDelay
from pulse.scheduler.reporter import Reporter
from pulse.store.base import Reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim, CompletedRun, RecordResult, Result, Run
    from pulse.core.task import TaskDefinition
    from pulse.engine.base import Engine
    from pulse.store.base import Claimed, Member, Store

MAX_SLEEP: Span = SECOND
"""The loop looks at least this often: somebody may have set the clock, or triggered a task."""

HEARTBEAT_INTERVAL: Span = 750_000
"""A lease is seen so much later than it begins, at most: a dead holder's tasks go on within a lease
and a second."""

MIN_SLEEP_AFTER_CLAIM: Span = 300
"""After a step that won something the loop sleeps at least this long: what is due next is claimed
together. At thousands of ticks a second that saves a third of the CPU."""

MAX_UNINTERRUPTED_SLEEP: Span = 2_000
"""A run's end does not cut a sleep of this length short: ends are recorded together."""

_JOIN: Span = 5 * SECOND
_CLAIM_LOOKS, _CLAIM_LOOK_S = 200, 0.005


class SchedulerParts(msgspec.Struct, frozen=True, kw_only=True):
    """What a scheduler works with; built by `pulse.runtime`, once for each process.

    Attributes:
        store: called directly: one that blocks is an `OffloadedStore`.
        perform: runs a claim to its result; called by the engine.
        name: `pulse.config.name`.
        chosen: whether the configuration says which store it is.
        serving: whether the server still wants this process to take new work.
        mark: set in forked children, whose copy of all this takes no part.

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


class Scheduler:
    """One process's part in the fleet."""

    def __init__(self, parts: SchedulerParts) -> None:
        self._parts = parts
        self.store: Store = parts.store
        self._engine = parts.engine
        self._mark = parts.mark
        self._bus = bus = parts.bus.until_fork(parts.mark)
        self._clock = parts.clock
        self._completer = Completer(self._finish, bus)
        self._reporter = Reporter(bus, parts.clock, name=parts.name, chosen=parts.chosen)
        self._back_off = BackOff(chance)
        self._turn = ContentionDelay()
        self._renew_every = parts.member.lease_us // 3
        self._renew_at: Span = 0
        self._gone_at: Span = 0
        self._beat_at: Span = 0
        self._compare_at: Span = 0
        self._sleep: Span = MAX_SLEEP
        self._synced = False
        self._opened = False
        self._quiet = False
        self._claiming = False
        self._stopping = False
        self._closed = False

    # What the owner does -----------------------------------------------------------------

    def open(self) -> None:
        """Start the engine's slots and join the store; an outage is left to the loop.

        Raises:
            EngineError: the engine cannot run here.
            StoreInUseError: another pulse of this process has the store.
            StoreSchemaError: the store belongs to another version.

        """
        with self._or_nothing():
            work = EngineCallbacks(self._parts.perform, self._report, self._reporter.overdue)
            self._engine.start(work, concurrency=self._parts.concurrency)
            try:
                self._join()
            except StoreUnavailableError as error:
                self._reporter.store_unavailable(error)

    def start(self) -> None:
        """Open, and run the loop beside the application; raises what `open` raises."""
        self.open()
        with self._or_nothing():
            self._engine.loop.spawn(self._loop)

    @contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """Leave neither slots nor an open store behind where a start fails half way."""
        try:
            yield
        except BaseException:
            self._engine.stop(0)
            self._leave()
            raise

    def stop_claiming(self) -> None:
        """Claim nothing more; what is running goes on."""
        self._quiet = True

    def stop(self, drain_us: Span) -> None:
        """Drain for that long, interrupt what is left, record all, and leave the store.

        The loop goes on during the drain: leases are renewed, and ends are recorded.
        """
        self._quiet = True
        self._gone_at = self._clock.boot() + min(drain_us, _JOIN)
        self._let_claim_end()
        self._engine.stop(drain_us)
        self._stopping = True
        self._engine.loop.wake()
        if self._engine.loop.join(_JOIN):
            self.close()
        self._mark.outlast_forker()

    def forked(self) -> None:
        """Take no more part, without a word: this is a copy, in a forked child (`pulse.forks`)."""
        self._mark.set()
        self._quiet = self._stopping = self._closed = True
        self._opened = False
        self.store.forked()
        self._engine.forked()

    def _let_claim_end(self) -> None:
        """Give a claim that is on its way a second: its runs belong in the drain."""
        pause = threading.Event()
        for _ in range(_CLAIM_LOOKS):
            if not self._claiming:
                return
            pause.wait(_CLAIM_LOOK_S)

    def close(self) -> None:
        """Record what is left and leave the store; the loop does it when it ends."""
        if self._closed:
            return
        self._closed = True
        self._back_off.reset()
        self._completer.drain(self._wait_for_store)
        self._leave()
        holder = self._parts.member.holder
        self._bus.emit(events.SchedulerStopped(holder, self._completer.interrupted))

    def _wait_for_store(self) -> bool:
        """Wait for the store as long as the drain, if it has not been used up."""
        pause = min(self._back_off.wait(), self._gone_at - self._clock.boot())
        if pause <= 0:
            return False
        self._engine.loop.wait(pause)
        return True

    def _leave(self) -> None:
        if not self._opened:
            return
        try:
            self.store.close()
        # The process ends here, whatever state the store is in: the others find that it is gone.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._bus.emit(events.SchedulerError(error))

    def wake(self) -> None:
        """Look at the store now rather than at the next instant of work."""
        self._engine.loop.wake()

    def emit(self, event: events.Event, passed: Iterable[Run] = ()) -> None:
        """Tell of what was done through the handle, and of the fire times that it missed."""
        self._bus.emit(event)
        self._reporter.not_run(passed)

    # The loop ----------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stopping:
            self._sleep = self.step()
            self._engine.loop.wait(self._sleep)
            self._sleep = MAX_SLEEP  # what ends during a step cuts the next sleep short
        self.close()

    def step(self) -> Span:
        """Do one turn, whatever happens; return how long to sleep before the next."""
        began = self._clock.boot()
        try:
            return self._one_turn()
        except StoreUnavailableError as error:
            self._reporter.store_unavailable(error)
        # One bad turn must not end the loop: it is told of, and the next one comes.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._reporter.scheduler_error(error)
        return self._back_off.wait(self._clock.boot() - began)

    def _one_turn(self) -> Span:
        if not self._synced:
            self._join()
        self._completer.flush()
        self._stay_alive()
        self._claiming = True
        try:
            pause = self._claim()
        finally:
            self._claiming = False
        if self._reporter.store_recovered():
            self._back_off.reset()
        return 0 if self._completer.waiting else pause

    def _join(self) -> None:
        if not self._opened:
            self.store.open(self._parts.member)
            self._opened = True
            if self.store.notice:
                self._bus.emit(events.Notice(self.store.notice))
        synced = self.store.sync(self._parts.definitions)
        self._synced = True
        self._beat_at = self._clock.boot()
        self._reporter.synced(synced)
        self._reporter.started(self._parts.member, self.store, len(self._parts.definitions))

    def _finish(self, batch: Sequence[CompletedRun]) -> list[RecordResult]:
        return self.store.finish(batch)

    def _report(self, completed_run: CompletedRun) -> None:
        self._completer.put(completed_run)
        if self._sleep > MAX_UNINTERRUPTED_SLEEP:
            self._engine.loop.wake()

    # Staying alive -----------------------------------------------------------------------

    def _stay_alive(self) -> None:
        now = self._clock.boot()
        if now >= self._renew_at:
            self._renew_at = now + self._renew_every
            self._renew()
        if now >= self._beat_at:
            self._beat_at = now + min(HEARTBEAT_INTERVAL, self._renew_every)
            self._heartbeat()
        if now >= self._compare_at:
            self._compare_at = now + self._renew_every
            self._compare()

    def _renew(self) -> None:
        held = self._completer.in_progress()
        if not held:
            return
        try:
            self.store.renew(held)
        except StoreUnavailableError:
            self._renew_at = 0  # at the next step, not in a third of a lease: others may count
            raise

    def _heartbeat(self) -> None:
        beat = self.store.heartbeat()
        if beat.next_expiry is not None:
            self._beat_at = min(self._beat_at, beat.next_expiry)
        for run in beat.abandoned:
            self._bus.emit(events.RunAbandoned(run))
        self._reporter.superseded(beat.superseded)
        self._reporter.not_run(beat.missed)
        if beat.archived:
            self._bus.emit(events.TasksArchived(beat.archived))

    def _compare(self) -> None:
        """Tell where processes hold other configurations; a store of one process has no others."""
        if self.store.reach is not Reach.PROCESS:
            members = self.store.members()
            self._reporter.members(members, self._parts.member.digest)

    # Claiming ----------------------------------------------------------------------------

    def _claim(self) -> Span:
        limit = 0 if self._quiet or not self._parts.serving() else self._engine.free()
        if limit <= 0:
            return self._longest_sleep()
        claimed = self.store.claim_due(limit)
        self._submit(claimed.claims)
        self._reporter.not_run(claimed.not_run)
        for run in claimed.expired_retries:
            self._bus.emit(events.RetryExpired(run))
        for task, error in claimed.failed_tasks:
            self._reporter.task_failed(task, error)
        return self._pause(claimed)

    def _submit(self, claims: Sequence[Claim]) -> None:
        self._completer.track(claims)
        heard, submit = self._bus.has_listeners(events.RunClaimed), self._engine.submit
        for claim in claims:
            if heard:
                self._bus.emit(events.RunClaimed(claim))
            submit(claim)

    def _pause(self, claimed: Claimed) -> Span:
        won = bool(claimed.claims or claimed.not_run)
        self._turn.after(now=claimed.now, won=won, next_wakeup=claimed.next_wakeup)
        if claimed.next_wakeup is None:
            return self._longest_sleep()
        pause = max(claimed.next_wakeup - claimed.now, 0)
        if won and pause:
            pause = max(pause, MIN_SLEEP_AFTER_CLAIM)
        if self.store.reach is not Reach.PROCESS:
            pause += self._turn.delay()
        return min(pause, self._longest_sleep())

    def _longest_sleep(self) -> Span:
        until_beat = max(self._beat_at - self._clock.boot(), 0)
        return min(MAX_SLEEP, self._renew_every, until_beat)
