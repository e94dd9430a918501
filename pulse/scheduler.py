"""The loop of one process: record what ended, stay alive, claim what is due, hand it on.

`step` does one turn and can be called by hand; `start` runs it in a loop of the engine's flavour.
Nothing ends that loop but `stop`: an outage of the store, and any error that nobody foresaw, is
announced, and the loop goes on after a pause.
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import msgspec

from pulse import events
from pulse.clock import SECOND
from pulse.engine.base import Work
from pulse.errors import PulseError, StoreUnavailableError
from pulse.pacing import BackOff, Turn
from pulse.run import Claim, Ending, Outcome
from pulse.store.base import Reach

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pulse.clock import Clock, Span
    from pulse.engine.base import Engine
    from pulse.run import Result, Run
    from pulse.store.base import Claimed, Member, Store
    from pulse.task import Definition

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_SLEEP: Span = SECOND
"""The loop looks at least this often: somebody may have set the clock, or triggered a task."""

BEAT_EVERY: Span = SECOND

GATHER: Span = 300
"""After a step that won something the loop sleeps at least this long: what is due next is claimed
together. At thousands of ticks a second that saves a third of the CPU."""

SOON: Span = 2_000
"""A run's end does not cut a sleep of this length short: ends are recorded together."""

LAST_TRIES = 3
_JOIN: Span = 5 * SECOND


class Plant(msgspec.Struct, frozen=True, kw_only=True):
    """What a scheduler works with; built by `pulse.compose`, once for each process.

    Attributes:
        perform: runs a claim to its result; called by the engine.
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
    serving: Callable[[], bool] = lambda: True


class Scheduler:
    """One process's part in the fleet."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self.store: Store = plant.store
        self._engine = plant.engine
        self._bus = plant.bus
        self._clock = plant.clock
        self._ended: deque[Ending] = deque()
        self._active: dict[str, Claim] = {}
        self._back_off = BackOff(_chance)
        self._turn = Turn()
        self._lost_at: Span | None = None
        self._renew_every = plant.member.lease_us // 3
        self._renew_at: Span = 0
        self._beat_at: Span = 0
        self._superseded: tuple[str, ...] = ()
        self._sleep: Span = LONGEST_SLEEP
        self._synced = False
        self._opened = False
        self._quiet = False
        self._stopping = False
        self._closed = False
        self._failing = ""
        self._interrupted = 0

    # What the owner does -----------------------------------------------------------------

    def open(self) -> None:
        """Start the engine's slots and join the store; an outage is left to the loop.

        Raises:
            EngineError: the engine cannot run here.
            StoreInUseError: another pulse of this process has the store.
            StoreSchemaError: the store belongs to another version.

        """
        work = Work(self._plant.perform, self._report, self._tell_overdue)
        self._engine.start(work, concurrency=self._plant.concurrency)
        try:
            self._join()
        except StoreUnavailableError as error:
            self._tell_lost(error)
        except PulseError:
            self._engine.stop(0)
            raise

    def start(self) -> None:
        """Open, and run the loop beside the application; raises what `open` raises."""
        self.open()
        self._engine.spawn_loop(self._loop)

    def quiet(self) -> None:
        """Claim nothing more; what is running goes on."""
        self._quiet = True

    def stop(self, drain_us: Span) -> None:
        """Drain for that long, interrupt what is left, record all, and leave the store.

        The loop goes on during the drain: leases are renewed, and ends are recorded.
        """
        self._quiet = True
        self._engine.stop(drain_us)
        self._stopping = True
        self._engine.wake()
        if self._engine.join_loop(_JOIN):
            self.close()

    def close(self) -> None:
        """Record what is left and leave the store; the loop does it when it ends."""
        if self._closed:
            return
        self._closed = True
        self._record_last()
        self.store.close()
        self._bus.emit(events.SchedulerStopped(self._plant.member.holder, self._interrupted))

    def wake(self) -> None:
        """Look at the store now rather than at the next instant of work."""
        self._engine.wake()

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
        try:
            return self._one_turn()
        except StoreUnavailableError as error:
            self._tell_lost(error)
        # One bad turn must not end the loop: it is told of, and the next one comes.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._tell_failed(error)
        return self._back_off.wait()

    def _one_turn(self) -> Span:
        if not self._synced:
            self._join()
        self._record()
        self._stay_alive()
        pause = self._claim()
        if self._lost_at is not None or self._failing:
            self._tell_back()
        return 0 if self._ended else pause

    def _join(self) -> None:
        if not self._opened:
            self.call(self.store.open, self._plant.member)
            self._opened = True
        synced = self.call(self.store.sync, self._plant.definitions)
        self._synced = True
        self._beat_at = self._clock.boot() + BEAT_EVERY
        self._tell_superseded(synced.superseded)
        self._bus.emit(self._started())

    def _started(self) -> events.SchedulerStarted:
        member, store = self._plant.member, self.store
        return events.SchedulerStarted(
            member.holder, member.mode, store.name, store.reach.value, len(self._plant.definitions)
        )

    # Recording ---------------------------------------------------------------------------

    def _report(self, ending: Ending) -> None:
        self._ended.append(ending)
        if self._sleep > SOON:
            self._engine.wake()

    def _record(self) -> None:
        batch = list(self._ended)
        if not batch:
            return
        accepted = self.call(self.store.finish, batch)
        for ending, recorded in zip(batch, accepted, strict=True):
            self._ended.popleft()
            self._active.pop(ending.claim.run.id, None)
            self._tell_end(ending, recorded=recorded)

    def _tell_end(self, ending: Ending, *, recorded: bool) -> None:
        if ending.result.outcome is Outcome.INTERRUPTED:
            self._interrupted += 1
        kind = events.RunEnded if recorded else events.ClaimLost
        if self._bus.heard(kind):
            self._bus.emit(kind(ending.claim, ending.result))

    def _record_last(self) -> None:
        for _ in range(LAST_TRIES):
            try:
                self._record()
            except StoreUnavailableError:
                continue
            # The process ends here: what cannot be recorded is left to its lease.
            except Exception as error:  # noqa: BLE001 - the reason is above
                self._bus.emit(events.StepFailed(error))
            return

    # Staying alive -----------------------------------------------------------------------

    def _stay_alive(self) -> None:
        now = self._clock.boot()
        if now >= self._renew_at:
            self._renew_at = now + self._renew_every
            self._renew()
        if now >= self._beat_at:
            self._beat_at = now + min(BEAT_EVERY, self._renew_every)
            self._beat()

    def _renew(self) -> None:
        if self._active:
            self.call(self.store.renew, list(self._active.values()))

    def _beat(self) -> None:
        beat = self.call(self.store.beat)
        for run in beat.abandoned:
            self._bus.emit(events.RunAbandoned(run))
        self._tell_superseded(beat.superseded)

    # Claiming ----------------------------------------------------------------------------

    def _claim(self) -> Span:
        limit = 0 if self._quiet or not self._plant.serving() else self._engine.free()
        if limit <= 0:
            return self._longest_sleep()
        claimed = self.call(self.store.claim_due, limit)
        for claim in claimed.claims:
            self._hand_on(claim)
        for run in claimed.passed:
            self._tell_passed(run)
        return self._pause(claimed)

    def _hand_on(self, claim: Claim) -> None:
        self._active[claim.run.id] = claim
        if self._bus.heard(events.RunClaimed):
            self._bus.emit(events.RunClaimed(claim))
        self._engine.submit(claim)

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
        return min(LONGEST_SLEEP, self._renew_every)

    # Telling -----------------------------------------------------------------------------

    def _tell_passed(self, run: Run) -> None:
        missed = run.outcome is Outcome.MISSED
        self._bus.emit(events.TickMissed(run) if missed else events.TickSkipped(run))

    def _tell_overdue(self, claim: Claim, left_behind: int) -> None:
        self._bus.emit(events.RunOverdue(claim, left_behind))

    def _tell_superseded(self, names: Sequence[str]) -> None:
        if tuple(names) != self._superseded:
            self._superseded = tuple(names)
            self._bus.emit(events.ConfigsDiffer(self._superseded))

    def _tell_lost(self, error: StoreUnavailableError) -> None:
        if self._lost_at is None:
            self._lost_at = self._clock.boot()
            self._bus.emit(events.StoreLost(str(error)))

    def _tell_failed(self, error: Exception) -> None:
        if repr(error) != self._failing:
            self._failing = repr(error)
            self._bus.emit(events.StepFailed(error))

    def _tell_back(self) -> None:
        self._failing = ""
        self._back_off.reset()
        if self._lost_at is not None:
            after, self._lost_at = self._clock.boot() - self._lost_at, None
            self._bus.emit(events.StoreBack(after))


def _chance() -> float:
    """Return a random figure from 0 to 1, without what `random` would import."""
    return os.urandom(1)[0] / 256
