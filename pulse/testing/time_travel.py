"""Time travel: runs a schedule with the real app, in this process and in virtual time.

    with travel(app) as clock:
        clock.forward(hours=24)
        assert [run.outcome for run in clock.runs("cleanup")] == ["succeeded"] * 24

The scheduler and the app are the real ones. Whatever the configuration names, the engine runs in
the calling thread, the store is in memory, and the clock moves only when the test moves it. So
nothing is written, no thread is started, and every test starts from the same state.
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
from pulse.store.base import StoreOptions
from pulse.testing.clock import NOON, FakeClock
from pulse.testing.find_middleware import find_pulse
from pulse.testing.late_store import LateStore
from pulse.testing.virtual_engine import VirtualEngine

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from typing import Unpack

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.handle.handle import SchedulerHandle
    from pulse.runtime import PulseRuntime

Length = float | str | timedelta
"""Seconds, a duration such as `"1h30m"`, or a timedelta."""

_KEPT = 1_000_000
_MAX_STEPS = 10_000
_ENDED = "expected time travel in progress, got one that has ended"
_INSIDE = (
    "expected a call from the test, got a call from within a run; a view triggers tasks by "
    "environ['pulse.scheduler']"
)


class Units(TypedDict, total=False):
    """Parts of a length of time; the length is their sum."""

    days: float
    hours: float
    minutes: float
    seconds: float


class TravelRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run, or the record of fire times that did not run, with types for tests.

    Attributes:
        task: the name of the task.
        fire_time: the planned instant, in UTC; for a manual run the instant of the request.
        outcome: `succeeded`, `failed`, `timed_out`, `abandoned`, `interrupted`, `missed` or
            `skipped`; None while the run is unfinished.
        status: the HTTP status of the response.
        message: the start of the body, or a traceback.
        attempts: the number of attempts; 0 if nothing ran.
        trigger: `schedule`, `catch_up`, `manual` or `startup`.
        count: the number of fire times of a missed or skipped record; *fire_time* is the oldest.
        started_at: the start of the call, in UTC.
        took: the duration in virtual time.

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
        """Return a run of the store with types for tests."""
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
    """Run the schedule of *app* in virtual time, from *start* on, inside a `with` block.

    Args:
        app: a `PulseMiddleware`, or an app that contains one: a Flask app, a paste pipeline, a
            `webtest.TestApp`.
        start: an aware datetime or RFC 3339 text; by default 2026-01-05T12:00:00Z, a Monday. The
            store sees the tasks for the first time at this instant.
        took: the virtual duration of the runs of a task, which may be added during the time
            travel; by default zero.

    Raises:
        TravelError: *app* contains no PulseMiddleware, or its scheduler has started already.
        ConfigError: *took* has an invalid duration; or, at the end, a task that was never there.

    """
    runtime = find_pulse(app).runtime
    time_travel = TimeTravel(
        runtime,
        clock=FakeClock(NOON if start is None else moment_of(instant(start))),
        took=_spans(took or {}, runtime),
    )
    try:
        time_travel.set_off()
        yield time_travel
    except Exception as error:
        for problem in time_travel.unused():
            error.add_note(problem)
        raise
    finally:
        time_travel.end()
    if problems := time_travel.unused():
        raise ConfigError(problems)


def _spans(took: Mapping[str, Length], runtime: PulseRuntime) -> dict[str, Span]:
    """Return the durations; a problem with one of them is reported with all unknown tasks."""
    spans: dict[str, Span] = {}
    problems: dict[str, str] = {}
    for name, length in took.items():
        try:
            spans[name] = duration_or_zero(length)
        except BadValueError as error:
            problems[name] = f"took[{name!r}]: {error}"
    if problems:
        known = runtime.settings.tasks
        unknown = {name: _unknown_in_took(name, known) for name in spans if name not in known}
        both = {**problems, **unknown}
        raise ConfigError(both[name] for name in took if name in both)
    return spans


def _unknown_in_took(name: str, known: Collection[str]) -> str:
    return f"took[{name!r}]: {_unknown(name, known)}"


def _unknown(name: object, known: Collection[str]) -> str:
    near = did_you_mean(str(name), known)
    return f"expected the name of a task, got {shown(name)}{near}"


class TimeTravel:
    """A schedule in virtual time; made by `travel`.

    Time moves from one instant with work to the next, and all work of an instant is done before
    time moves further. An exception in the scheduler is raised by the call that moved the time.

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
        self._store = LateStore(
            clock, StoreOptions(name=runtime.settings.name or "", keep_runs=_KEPT)
        )
        self._known: set[str] = set(runtime.settings.tasks)
        self._took = tuple(took)
        self._errors: list[BaseException] = []
        self._moving = False
        self._past: list[Run] | None = None
        self._loop = runtime.start_for_test(clock=clock, engine=self._engine, store=self._store)
        runtime.bus.subscribe(events.SchedulerError, self._note)
        runtime.bus.subscribe(events.TaskAdded, self._note_task)

    # Calls of a test ----------------------------------------------------------------------

    def set_off(self) -> None:
        """Do the work that is due at the start; `travel` calls it."""
        with self._travelling():
            self._settle()

    def now(self) -> datetime:
        """Return the virtual time, in UTC."""
        return moment_of(self._clock.wall())

    def forward(self, length: Length = 0, **units: Unpack[Units]) -> None:
        """Move time forward, and run what becomes due: `forward("1h30m")`, `forward(days=2)`.

        Raises:
            BadValueError: the length is not above zero.
            TravelError: the time travel has ended, or a run makes the call.

        """
        with self._travelling():
            self._pass(_total(length, units))

    def travel_to(self, moment: datetime | str) -> None:
        """Move time to *moment*, an aware datetime or RFC 3339 text; raises as `forward`."""
        span = instant(moment) - self._clock.wall()
        if span < 0:
            raise BadValueError(f"a moment not before {self.now().isoformat()}", moment)
        with self._travelling():
            self._pass(span)

    def outage(self, length: Length = 0, **units: Unpack[Units]) -> None:
        """Move time while no process serves, as during a suspend; raises as `forward`.

        Ticks that were due meanwhile are late; `misfire` and `grace` decide about them.
        """
        with self._travelling():
            self._clock.forward(timedelta(microseconds=_total(length, units)))
            self._settle()

    def set_wall(self, moment: datetime | str) -> None:
        """Set the wall clock to a later or an earlier moment; the boot clock does not change."""
        with self._travelling():
            self._clock.set_wall(moment_of(instant(moment)))
            self._settle()

    def trigger(self, name: str, *, body: bytes | str | None = None) -> TravelRun | None:
        """Run a task now, in addition to its schedule; None if `overlap` refuses the run.

        Raises:
            UnknownTaskError: no task has this name.

        """
        with self._travelling():
            opened = self.scheduler.trigger(name, body=body)
            self._settle()
        if opened is None:
            return None
        return next(TravelRun.of(run) for run in self._history(name) if run.id == opened.id)

    def runs(self, task: str | None = None) -> list[TravelRun]:
        """Return the runs so far, of one task or of all, in the order of their fire times.

        The runs are available after the end of the time travel, too, and those of a task that was
        added or removed at run time.

        Raises:
            UnknownTaskError: no task has or had this name.

        """
        if task is not None and not (isinstance(task, str) and task in self._known):
            raise UnknownTaskError(_unknown(task, self._known))
        history = sorted(self._history(task), key=attrgetter("fire_time"))
        return [TravelRun.of(run) for run in history]

    def unused(self) -> list[str]:
        """Return a problem for each task of *took* that was never there; `travel` calls it."""
        return [
            _unknown_in_took(name, self._known) for name in self._took if name not in self._known
        ]

    def end(self) -> None:
        """End the time travel; `travel` calls it."""
        if self._past is not None:
            return
        self._past = self._history(None)
        self._runtime.bus.unsubscribe(events.SchedulerError, self._note)
        self._runtime.bus.unsubscribe(events.TaskAdded, self._note_task)
        self._runtime.shutdown(0)

    # How time moves ------------------------------------------------------------------------

    @contextmanager
    def _travelling(self) -> Iterator[None]:
        """Refuse calls from within a run, and calls after the end."""
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
        """Return the time until the next work; None if there is none."""
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
        """Do all work that is due at this instant."""
        self._engine.end_due()
        for _ in range(_MAX_STEPS):
            pause = self._loop.step()
            if self._errors:
                raise self._errors.pop(0)
            if pause:
                return
        raise TravelError(
            f"expected the work of {self.now().isoformat()} to end, got {_MAX_STEPS} steps of the "
            "loop; do tasks trigger each other?"
        )

    def _note(self, event: events.SchedulerError) -> None:
        self._errors.append(event.error)

    def _note_task(self, event: events.TaskAdded) -> None:
        self._known.add(event.task)

    def _history(self, task: str | None) -> list[Run]:
        """Return the runs of the store, in the order of their decisions."""
        if self._past is None:
            return self._store.runs(task=task, limit=_KEPT)[::-1]
        return [run for run in self._past if task in (None, run.task)]


def _total(length: Length, units: Units) -> Span:
    return duration(timedelta(microseconds=duration_or_zero(length)) + timedelta(**units))


def _pause(next_wakeup: Instant, now: Instant) -> Span:
    """Return the time until *next_wakeup*; after it, the longest sleep of the scheduler."""
    return next_wakeup - now if next_wakeup > now else MAX_SLEEP
