"""The loop of one process: record what ended, stay alive, claim what is due, hand it on.

`step` does one turn and can be called by hand; `start` runs it in a loop of the engine's flavour.
Nothing ends that loop but `stop`: an outage of the store, and any error that nobody foresaw, is
announced, and the loop goes on after a pause.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import msgspec

from pulse import events
from pulse.backoff import BackOff, chance
from pulse.clock import SECOND
from pulse.engine.base import Work
from pulse.errors import StoreUnavailableError
from pulse.scheduler.completer import Endings
from pulse.scheduler.poll_delay import Turn
from pulse.scheduler.reporter import Telling
from pulse.store.base import Reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim, Ending, Finished, Result, Run
    from pulse.core.task import Definition
    from pulse.engine.base import Engine
    from pulse.store.base import Claimed, Member, Store

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_SLEEP: Span = SECOND
"""The loop looks at least this often: somebody may have set the clock, or triggered a task."""

BEAT_EVERY: Span = 750_000
"""A lease is seen so much later than it begins, at most: a dead holder's tasks go on within a lease
and a second."""

GATHER: Span = 300
"""After a step that won something the loop sleeps at least this long: what is due next is claimed
together. At thousands of ticks a second that saves a third of the CPU."""

SOON: Span = 2_000
"""A run's end does not cut a sleep of this length short: ends are recorded together."""

_JOIN: Span = 5 * SECOND
_CLAIM_LOOKS, _CLAIM_LOOK_S = 200, 0.005


class Plant(msgspec.Struct, frozen=True, kw_only=True):
    """What a scheduler works with; built by `pulse.runtime`, once for each process.

    Attributes:
        perform: runs a claim to its result; called by the engine.
        name: `pulse.config.name`.
        chosen: whether the configuration says which store it is.
        serving: whether the server still wants this process to take new work.

    """

    definitions: Mapping[str, Definition]
    member: Member
    store: Store
    engine: Engine
    bus: events.Bus
    clock: Clock
    perform: Callable[[Claim], Result]
    concurrency: int
    name: str = ""
    chosen: bool = False
    serving: Callable[[], bool] = lambda: True


class Scheduler:
    """One process's part in the fleet."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self.store: Store = plant.store
        self._engine = plant.engine
        self._bus = plant.bus
        self._clock = plant.clock
        self._endings = Endings(self._finish, plant.bus)
        self._telling = Telling(plant.bus, plant.clock, name=plant.name, chosen=plant.chosen)
        self._back_off = BackOff(chance)
        self._turn = Turn()
        self._renew_every = plant.member.lease_us // 3
        self._renew_at: Span = 0
        self._gone_at: Span = 0
        self._beat_at: Span = 0
        self._compare_at: Span = 0
        self._sleep: Span = LONGEST_SLEEP
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
            work = Work(self._plant.perform, self._report, self._telling.overdue)
            self._engine.start(work, concurrency=self._plant.concurrency)
            try:
                self._join()
            except StoreUnavailableError as error:
                self._telling.lost(error)

    def start(self) -> None:
        """Open, and run the loop beside the application; raises what `open` raises."""
        self.open()
        with self._or_nothing():
            self._engine.spawn_loop(self._loop)

    @contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """Leave neither slots nor an open store behind where a start fails half way."""
        try:
            yield
        except BaseException:
            self._engine.stop(0)
            self._leave()
            raise

    def quiet(self) -> None:
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
        self._engine.wake()
        if self._engine.join_loop(_JOIN):
            self.close()

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
        self._endings.record_last(self._linger)
        self._leave()
        holder = self._plant.member.holder
        self._bus.emit(events.SchedulerStopped(holder, self._endings.interrupted))

    def _linger(self) -> bool:
        """Wait for the store as long as the drain, if it has not been used up."""
        pause = min(self._back_off.wait(), self._gone_at - self._clock.boot())
        if pause <= 0:
            return False
        self._engine.wait(pause)
        return True

    def _leave(self) -> None:
        if not self._opened:
            return
        try:
            self.call(self.store.close)
        # The process ends here, whatever state the store is in: the others find that it is gone.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._bus.emit(events.StepFailed(error))

    def wake(self) -> None:
        """Look at the store now rather than at the next instant of work."""
        self._engine.wake()

    def tell(self, event: events.Event, passed: Iterable[Run] = ()) -> None:
        """Tell of what was done through the handle, and of the fire times that it missed."""
        self._bus.emit(event)
        self._telling.passed(passed)

    def call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a method of the store returns, without stalling others."""
        if self.store.blocking:
            return self._engine.offload(partial(method, *args, **kwargs))
        return method(*args, **kwargs)

    # The loop ----------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stopping:
            self._sleep = self.step()
            self._engine.wait(self._sleep)
            self._sleep = LONGEST_SLEEP  # what ends during a step cuts the next sleep short
        self.close()

    def step(self) -> Span:
        """Do one turn, whatever happens; return how long to sleep before the next."""
        began = self._clock.boot()
        try:
            return self._one_turn()
        except StoreUnavailableError as error:
            self._telling.lost(error)
        # One bad turn must not end the loop: it is told of, and the next one comes.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._telling.failed(error)
        return self._back_off.wait(self._clock.boot() - began)

    def _one_turn(self) -> Span:
        if not self._synced:
            self._join()
        self._endings.record()
        self._stay_alive()
        self._claiming = True
        try:
            pause = self._claim()
        finally:
            self._claiming = False
        if self._telling.back():
            self._back_off.reset()
        return 0 if self._endings.waiting else pause

    def _join(self) -> None:
        if not self._opened:
            self.call(self.store.open, self._plant.member)
            self._opened = True
            if self.store.notice:
                self._bus.emit(events.Notice(self.store.notice))
        synced = self.call(self.store.sync, self._plant.definitions)
        self._synced = True
        self._beat_at = self._clock.boot()
        self._telling.synced(synced)
        self._telling.started(self._plant.member, self.store, len(self._plant.definitions))

    def _finish(self, batch: Sequence[Ending]) -> list[Finished]:
        return self.call(self.store.finish, batch)

    def _report(self, ending: Ending) -> None:
        self._endings.take(ending)
        if self._sleep > SOON:
            self._engine.wake()

    # Staying alive -----------------------------------------------------------------------

    def _stay_alive(self) -> None:
        now = self._clock.boot()
        if now >= self._renew_at:
            self._renew_at = now + self._renew_every
            self._renew()
        if now >= self._beat_at:
            self._beat_at = now + min(BEAT_EVERY, self._renew_every)
            self._beat()
        if now >= self._compare_at:
            self._compare_at = now + self._renew_every
            self._compare()

    def _renew(self) -> None:
        held = self._endings.held()
        if not held:
            return
        try:
            self.call(self.store.renew, held)
        except StoreUnavailableError:
            self._renew_at = 0  # at the next step, not in a third of a lease: others may count
            raise

    def _beat(self) -> None:
        beat = self.call(self.store.beat)
        if beat.look_at is not None:
            self._beat_at = min(self._beat_at, beat.look_at)
        for run in beat.abandoned:
            self._bus.emit(events.RunAbandoned(run))
        self._telling.superseded(beat.superseded)
        self._telling.passed(beat.passed)
        if beat.archived:
            self._bus.emit(events.TasksArchived(beat.archived))

    def _compare(self) -> None:
        """Tell where processes hold other configurations; a store of one process has no others."""
        if self.store.reach is not Reach.PROCESS:
            members = self.call(self.store.members)
            self._telling.members(members, self._plant.member.digest)

    # Claiming ----------------------------------------------------------------------------

    def _claim(self) -> Span:
        limit = 0 if self._quiet or not self._plant.serving() else self._engine.free()
        if limit <= 0:
            return self._longest_sleep()
        claimed = self.call(self.store.claim_due, limit)
        self._hand_on(claimed.claims)
        self._telling.passed(claimed.passed)
        for run in claimed.given_up:
            self._bus.emit(events.RunGivenUp(run))
        for task, error in claimed.unplanned:
            self._telling.unplanned(task, error)
        return self._pause(claimed)

    def _hand_on(self, claims: Sequence[Claim]) -> None:
        self._endings.hold(claims)
        heard, submit = self._bus.heard(events.RunClaimed), self._engine.submit
        for claim in claims:
            if heard:
                self._bus.emit(events.RunClaimed(claim))
            submit(claim)

    def _pause(self, claimed: Claimed) -> Span:
        won = bool(claimed.claims or claimed.passed)
        self._turn.after(now=claimed.now, won=won, wake_at=claimed.wake_at)
        if claimed.wake_at is None:
            return self._longest_sleep()
        pause = max(claimed.wake_at - claimed.now, 0)
        if won and pause:
            pause = max(pause, GATHER)
        if self.store.reach is not Reach.PROCESS:
            pause += self._turn.delay()
        return min(pause, self._longest_sleep())

    def _longest_sleep(self) -> Span:
        until_beat = max(self._beat_at - self._clock.boot(), 0)
        return min(LONGEST_SLEEP, self._renew_every, until_beat)
