"""The reporter emits one event for each outage, error and change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from pulse import events
from pulse.clock import SECOND
from pulse.errors import ConfigError, StoreProblem, StoreRefusedError, StoreUnavailableError
from pulse.scheduler.reporter import MAX_REASONS, NO_WORKER, Reporter
from pulse.store.base import SyncResult
from pulse.store.process_identity import this_member
from pulse.testing.clock import FakeClock
from pulse.testing.recorder import Recorder

if TYPE_CHECKING:
    from pulse.store.base import Member


class Listener:
    """A reporter with its own bus, and the events that it emitted."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        bus = events.EventBus()
        self.seen = Recorder(bus)
        self.reporter = Reporter(bus, self.clock)


@pytest.fixture
def listener() -> Listener:
    """Return one that has heard nothing."""
    return Listener()


def test_a_task_of_a_newer_release_is_a_notice(listener: Listener) -> None:
    """It is reported once, and is no failure."""
    for _ in range(2):
        listener.reporter.task_failed("report", ConfigError(["report: expected words"]))
    (notice,) = listener.seen.events
    expected = "this process does not run a task: report: expected words"
    assert (type(notice), notice.text) == (events.Notice, expected)


def test_a_schedule_that_raises_is_a_failure(listener: Listener) -> None:
    """The event names the task; another event follows when the task fails in another way."""
    for error in (ArithmeticError("one"), ArithmeticError("one"), ArithmeticError("two")):
        listener.reporter.task_failed("report", error)
    seen = listener.seen.of(events.SchedulerError)
    assert [(event.task, str(event.error)) for event in seen] == [
        ("report", "one"),
        ("report", "two"),
    ]


def test_an_outage_is_reported_once_with_its_length(listener: Listener) -> None:
    """However many calls fail."""
    for _ in range(3):
        listener.reporter.store_unavailable(StoreUnavailableError("gone"))
        listener.clock.forward(1)
    assert listener.reporter.store_recovered()
    assert listener.seen.events == [
        events.StoreUnavailable("gone"),
        events.StoreRecovered(3 * SECOND),
    ]


def test_an_error_that_recurs_after_a_good_turn_is_reported_again(listener: Listener) -> None:
    """While an error lasts, it is reported once."""
    listener.reporter.scheduler_error(ValueError("odd"))
    listener.reporter.scheduler_error(ValueError("odd"))
    assert (listener.reporter.store_recovered(), listener.reporter.store_recovered()) == (
        True,
        False,
    )
    listener.reporter.scheduler_error(ValueError("odd"))
    assert len(listener.seen.of(events.SchedulerError)) == 2


def test_superseded_tasks_are_reported_with_the_name_of_the_application() -> None:
    """Where there is none, they may be tasks of another application."""
    bus = events.EventBus()
    seen = Recorder(bus)
    reporter = Reporter(bus, FakeClock(), name="shop")
    for names in ((), ("report",), ("report",), ()):
        reporter.superseded(names)
    assert seen.events == [
        events.DefinitionsSuperseded(("report",), "shop"),
        events.DefinitionsSuperseded((), "shop"),
    ]


def test_definitions_that_a_start_has_changed_are_reported(listener: Listener) -> None:
    """Overridden run-time tasks are reported in an event of their own."""
    listener.reporter.synced(SyncResult((), ("report", "beat"), (), overridden=("report",)))
    assert listener.seen.events == [
        events.TasksChanged(("beat",)),
        events.TasksOverridden(("report",)),
    ]


def test_a_start_that_changes_nothing_reports_nothing(listener: Listener) -> None:
    """So it is with all workers but the first, and with the first start of all."""
    listener.reporter.synced(SyncResult(("beat",), (), ()))
    assert listener.seen.events == []


def member(holder: str, digest: str) -> Member:
    """Return a process that takes part."""
    here = this_member("inline", digest, SECOND)
    return msgspec.structs.replace(here, holder=holder)


def test_processes_of_another_configuration_are_named_while_they_live(listener: Listener) -> None:
    """Each change is reported once, and so is its end."""
    old, new = member("b", "old"), member("c", "new")
    for members in ([new], [old, new, member("a", "old")], [old, new, member("a", "old")], [new]):
        listener.reporter.members(members, "new")
    assert listener.seen.events == [events.ConfigMismatch(("a", "b")), events.ConfigMismatch(())]


def test_reasons_of_an_outage_are_reported_once_each(listener: Listener) -> None:
    """A probe and a call without a probe fail with two texts in turn."""
    for reason in ("refused", "too slow", "refused", "too slow"):
        listener.reporter.store_unavailable(StoreUnavailableError(reason))
        listener.clock.forward(1)
    assert listener.seen.events == [
        events.StoreUnavailable("refused"),
        events.StoreUnavailable("too slow", after_us=SECOND),
    ]


def test_reasons_that_never_repeat_are_limited_until_the_reminder(listener: Listener) -> None:
    """A reason may hold a number that changes with each call."""
    for number in range(299):
        listener.reporter.store_unavailable(StoreUnavailableError(f"call {number}"))
        listener.clock.forward(1)
    assert len(listener.seen.events) == MAX_REASONS


def test_problem_of_the_error_is_the_problem_of_the_event(listener: Listener) -> None:
    """A store that refuses is not one that is silent."""
    listener.reporter.store_unavailable(StoreRefusedError("no such role"))
    assert listener.seen.events == [events.StoreUnavailable("no such role", StoreProblem.REFUSING)]


def test_a_fleet_without_workers_is_reported_once_it_lasts(listener: Listener) -> None:
    """A worker that restarts is no lack; the remark comes once."""
    web = msgspec.structs.replace(member("a", "new"), mode="celery")
    worker = msgspec.structs.replace(member("b", "new"), mode="celery gevent")
    for members, seconds in (([web], 29), ([web, worker], 60), ([web], 31), ([web], 60)):
        listener.reporter.members(members, "new")
        listener.clock.forward(seconds)
        listener.reporter.members(members, "new")
    assert listener.seen.events == [events.Notice(NO_WORKER)]


def test_broker_that_does_not_answer_is_noted_until_it_answers(listener: Listener) -> None:
    """The process says so with its heartbeats; other events of the engine are only emitted."""
    lost, back = events.BrokerUnavailable("amqp://mq//", "silent"), events.BrokerRecovered("mq", 1)
    listener.reporter.of_engine(lost)
    assert listener.reporter.silent_broker == "amqp://mq//"
    listener.reporter.of_engine(events.Notice("other"))
    assert listener.reporter.silent_broker == "amqp://mq//"
    listener.reporter.of_engine(back)
    assert listener.reporter.silent_broker == ""
    assert listener.seen.events == [lost, events.Notice("other"), back]
