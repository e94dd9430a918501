"""Time travel: a whole schedule against the real app, in this process, in virtual time.

    with travel(app) as clock:
        clock.forward(hours=24)
        assert [run.outcome for run in clock.runs("cleanup")] == ["succeeded"] * 24

The scheduler is the real one, and so is the app. Its engine runs in the caller, its store is in
memory and its clock stands still until it is moved, whatever the configuration names: nothing is
written, no thread is started, and each trip finds the same.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, TypedDict

import msgspec

from pulse import events
from pulse.clock import moment_of
from pulse.errors import (
    BadValueError,
    ConfigError,
    TravelError,
    UnknownTaskError,
    did_you_mean,
    shown,
)
from pulse.scheduler.poll_delay import MAX_SLEEP
from pulse.settings.converters import duration, duration_or_zero, instant
from pulse.store.memory.store import MemoryStore
from pulse.testing.clock import NOON, FakeClock
from pulse.testing.find_middleware import find_pulse
from pulse.testing.virtual_engine import VirtualEngine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Unpack

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.handle import SchedulerHandle
    from pulse.runtime import PulseRuntime

Length = float | str | timedelta
"""Seconds, a duration such as `"1h30m"`, or a timedelta."""

_KEPT = 1_000_000
_MOST_TURNS = 10_000
_ENDED = "expected a trip that goes on, got one that has ended"
_INSIDE = (
    "expected to travel from the test, got a call from within a run; there "
    "environ['pulse.scheduler'] triggers tasks"
)


class Units(TypedDict, total=False):
    """A length in parts, which are added up."""

    days: float
    hours: float
    minutes: float
    seconds: float


class TravelRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run as a test asks about it, or the record of fire times that did not run.

    Attributes:
        task: the task's name.
        fire_time: the planned instant, in UTC; for a manual run the instant of the request.
        outcome: `succeeded`, `failed`, `timed_out`, `abandoned`, `interrupted`, `missed` or
            `skipped`; None while the run goes on or waits.
        status: the HTTP status of the reply.
        message: the start of the body, or a traceback.
        attempts: how many times it was tried; 0 where nothing ran.
        trigger: `schedule`, `catch_up`, `manual` or `startup`.
        count: how many fire times a missed or skipped record stands for, the oldest first.
        started_at: when the call began, in UTC.
        took: how long it took in virtual time.

    """

    task: str
    fire_time: datetime
    outcome: str | None
    status: int | None
    message: str
    attempts: int
    trigger: str
    count: int
    started_at: datetime | None
    took: timedelta | None

    @classmethod
    def of(cls, run: Run) -> TravelRun:
        """Return a store's run in the words of a test."""
        return cls(
            task=run.task,
            fire_time=moment_of(run.fire_time),
            outcome=run.outcome.value if run.outcome else None,
            status=run.status,
            message=run.message,
            attempts=run.attempt,
            trigger=run.trigger.value,
            count=run.count,
            started_at=None if run.started_at is None else moment_of(run.started_at),
            took=None if run.took_us is None else timedelta(microseconds=run.took_us),
        )


@contextmanager
def travel(
    app: object,
    *,
    start: datetime | str | None = None,
    took: Mapping[str, Length] | None = None,
) -> Iterator[TimeTravel]:
    """Let the schedule of *app* run in virtual time, from *start* on, for the length of a `with`.

    Args:
        app: a `PulseMiddleware`, or an app that holds one: a Flask app, a paste pipeline, a
            `webtest.TestApp`.
        start: an aware datetime or RFC 3339 text; by default 2026-01-05T12:00:00Z, a Monday. The
            store first sees the tasks then.
        took: how long the runs of a task take in virtual time; by default they take none.

    Raises:
        TravelError: no pulse is found in *app*, or it runs already.
        ConfigError: *took* names no task, or no duration.

    """
    runtime = find_pulse(app).runtime
    trip = TimeTravel(
        runtime,
        clock=FakeClock(NOON if start is None else moment_of(instant(start))),
        took=_spans(took or {}, runtime),
    )
    try:
        trip.set_off()
        yield trip
    finally:
        trip.end()


def _spans(took: Mapping[str, Length], runtime: PulseRuntime) -> dict[str, Span]:
    spans: dict[str, Span] = {}
    problems = []
    for name, length in took.items():
        try:
            spans[_known(name, runtime)] = duration_or_zero(length)
        except (BadValueError, UnknownTaskError) as error:
            problems.append(f"took[{name!r}]: {error}")
    if problems:
        raise ConfigError(problems)
    return spans


def _known(name: str, runtime: PulseRuntime) -> str:
    tasks = runtime.settings.tasks
    if name not in tasks:
        near = did_you_mean(str(name), tasks)
        raise UnknownTaskError(f"expected the name of a task, got {shown(name)}{near}")
    return name


class TimeTravel:
    """A schedule in virtual time; made by `travel`.

    Time moves from one instant of work to the next, and what is due at each is done before it
    moves on. An exception in the scheduler comes out of the call that moved the time.

    Attributes:
        scheduler: the handle that views find in `environ["pulse.scheduler"]`.

    """

    def __init__(
        self, runtime: PulseRuntime, *, clock: FakeClock, took: Mapping[str, Span]
    ) -> None:
        self.scheduler: SchedulerHandle = runtime.handle
        self._runtime = runtime
        self._clock = clock
        self._engine = VirtualEngine(clock, took)
        self._store = MemoryStore(clock, name=runtime.settings.name or "", keep_runs=_KEPT)
        self._errors: list[BaseException] = []
        self._moving = False
        self._past: list[Run] | None = None
        self._loop = runtime.start_for_test(clock=clock, engine=self._engine, store=self._store)
        runtime.bus.subscribe(events.SchedulerError, self._note)

    # What a test does ----------------------------------------------------------------------

    def set_off(self) -> None:
        """Do what is due at the start; the beginning of `travel` does it."""
        with self._travelling():
            self._settle()

    def now(self) -> datetime:
        """Return the virtual time, in UTC."""
        return moment_of(self._clock.wall())

    def forward(self, length: Length = 0, **units: Unpack[Units]) -> None:
        """Let time pass, and run what becomes due: `forward("1h30m")`, `forward(days=2)`.

        Raises:
            BadValueError: no length above zero was given.
            TravelError: the trip has ended, or a run calls this.

        """
        with self._travelling():
            self._pass(_total(length, units))

    def travel_to(self, moment: datetime | str) -> None:
        """Let time pass until *moment*, an aware datetime or RFC 3339 text; raises as `forward`."""
        span = instant(moment) - self._clock.wall()
        if span < 0:
            raise BadValueError(f"a moment not before {self.now().isoformat()}", moment)
        with self._travelling():
            self._pass(span)

    def outage(self, length: Length = 0, **units: Unpack[Units]) -> None:
        """Let time pass while no process serves, as on a laptop that sleeps; raises as `forward`.

        What was due in between is late: `misfire` and `grace` say what becomes of it.
        """
        with self._travelling():
            self._clock.forward(timedelta(microseconds=_total(length, units)))
            self._settle()

    def set_wall(self, moment: datetime | str) -> None:
        """Set the wall clock, forth or back, as somebody with a wrong watch does."""
        with self._travelling():
            self._clock.set_wall(moment_of(instant(moment)))
            self._settle()

    def trigger(self, name: str, *, body: bytes | str | None = None) -> TravelRun | None:
        """Run a task now, beside its schedule; None when overlap refuses it.

        Raises:
            UnknownTaskError: no such task.

        """
        with self._travelling():
            opened = self.scheduler.trigger(name, body=body)
            self._settle()
        if opened is None:
            return None
        return next(TravelRun.of(run) for run in self._history(name) if run.id == opened.id)

    def runs(self, task: str | None = None) -> list[TravelRun]:
        """Return the runs so far, of one task or of all, in the order of their fire times.

        It answers after the end of the trip too.

        Raises:
            UnknownTaskError: no such task.

        """
        if task is not None:
            _known(task, self._runtime)
        history = sorted(self._history(task), key=attrgetter("fire_time"))
        return [TravelRun.of(run) for run in history]

    def end(self) -> None:
        """End the trip; the end of `travel` does it."""
        if self._past is not None:
            return
        self._past = self._history(None)
        self._runtime.bus.unsubscribe(events.SchedulerError, self._note)
        self._runtime.shutdown(0)

    # How time moves ------------------------------------------------------------------------

    @contextmanager
    def _travelling(self) -> Iterator[None]:
        """Refuse a call from within a run, and one after the end."""
        if self._past is not None:
            raise TravelError(_ENDED)
        if self._moving:
            self._errors.append(TravelError(_INSIDE))
            raise self._errors[-1]
        self._moving = True
        try:
            yield
        finally:
            self._moving = False

    def _pass(self, span: Span) -> None:
        end = self._clock.boot() + span
        self._settle()
        while (pause := self._until_work()) is not None and self._clock.boot() + pause <= end:
            self._move(pause)
        self._move(end - self._clock.boot())

    def _move(self, span: Span) -> None:
        self._clock.forward(timedelta(microseconds=span))
        self._settle()

    def _until_work(self) -> Span | None:
        """Return how long nothing is to be done; None is for ever."""
        pauses = []
        end = self._engine.next_end()
        if end is not None:
            pauses.append(end - self._clock.boot())
        if self._engine.free():
            claimed = self._store.claim_due(0)
            if claimed.next_wakeup is not None:
                pauses.append(_pause(claimed.next_wakeup, claimed.now))
        return min(pauses, default=None)

    def _settle(self) -> None:
        """Do all that is due at this instant."""
        self._engine.end_due()
        for _ in range(_MOST_TURNS):
            pause = self._loop.step()
            if self._errors:
                raise self._errors.pop(0)
            if pause:
                return
        raise TravelError(
            f"expected the work of {self.now().isoformat()} to end, got {_MOST_TURNS} turns of it; "
            "do tasks trigger each other?"
        )

    def _note(self, event: events.SchedulerError) -> None:
        self._errors.append(event.error)

    def _history(self, task: str | None) -> list[Run]:
        """Return the runs as the store has them, in the order of their decisions."""
        if self._past is None:
            return self._store.runs(task=task, limit=_KEPT)[::-1]
        return [run for run in self._past if task in (None, run.task)]


def _total(length: Length, units: Units) -> Span:
    return duration(timedelta(microseconds=duration_or_zero(length)) + timedelta(**units))


def _pause(next_wakeup: Instant, now: Instant) -> Span:
    """Return how long the scheduler's own loop would sleep at most, or until *wake_at*."""
    return next_wakeup - now if next_wakeup > now else MAX_SLEEP
