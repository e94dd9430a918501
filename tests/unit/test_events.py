from __future__ import annotations

import inspect
import logging
from contextlib import suppress

import pytest

from pulse import events
from pulse.events import Event, EventBus, Notice, StoreUnavailable
from pulse.forks import ForkMark

KINDS = [
    found
    for _, found in inspect.getmembers(events, inspect.isclass)
    if issubclass(found, Event) and found is not Event
]


def test_a_listener_hears_the_events_it_asked_for() -> None:
    """An event of another class is not for it."""
    bus, heard = EventBus(), []
    bus.subscribe(Notice, heard.append)
    bus.emit(Notice("hello"))
    bus.emit(StoreUnavailable("gone"))
    assert heard == [Notice("hello")]


def test_listeners_are_told_in_the_order_in_which_they_subscribed() -> None:
    """The log comes before what was added later."""
    bus, heard = EventBus(), []
    bus.subscribe(Notice, lambda _: heard.append(1))
    bus.subscribe(Notice, lambda _: heard.append(2))
    bus.emit(Notice("hello"))
    assert heard == [1, 2]


def test_a_listener_that_raises_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Its failure is logged, the next listener is told, and the caller goes on."""
    bus, heard = EventBus(), []
    bus.subscribe(Notice, lambda _: 1 / 0)
    bus.subscribe(Notice, heard.append)
    with caplog.at_level(logging.ERROR, logger="pulse"):
        bus.emit(Notice("hello"))
    assert heard == [Notice("hello")]
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_is_no_error_goes_through(kind: type[BaseException]) -> None:
    """A process that is told to end does end."""

    def leave(_: Notice) -> None:
        raise kind

    bus = EventBus()
    bus.subscribe(Notice, leave)
    with pytest.raises(kind):
        bus.emit(Notice("hello"))


def test_a_bus_knows_whether_anybody_listens() -> None:
    """An event that nobody hears need not be made."""
    bus = EventBus()
    bus.subscribe(Notice, print)
    assert (bus.has_listeners(Notice), bus.has_listeners(StoreUnavailable)) == (True, False)


def test_a_listener_may_subscribe_another_while_it_is_told() -> None:
    """The new one hears the next event, not this one."""
    bus, heard = EventBus(), []
    bus.subscribe(Notice, lambda _: bus.subscribe(Notice, heard.append))
    bus.emit(Notice("one"))
    assert heard == []
    bus.emit(Notice("two"))
    assert heard == [Notice("two")]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_is_frozen_and_says_what_it_is(kind: type[Event]) -> None:
    """Listeners share one event, and its class is documented."""
    assert kind.__struct_config__.frozen
    assert inspect.getdoc(kind)


def test_a_listener_is_subscribed_once() -> None:
    """Whoever subscribes the same listener again is told of each event once all the same."""
    bus, heard = EventBus(), []
    bus.subscribe(Notice, heard.append)
    bus.subscribe(Notice, heard.append)
    bus.emit(Notice("a"))
    assert heard == [Notice("a")]


def test_a_listener_that_has_left_hears_nothing() -> None:
    """Whoever listens for a while leaves nobody behind; leaving twice is harmless."""
    bus, heard = EventBus(), []
    bus.subscribe(Notice, heard.append)
    bus.unsubscribe(Notice, heard.append)
    bus.unsubscribe(Notice, heard.append)
    bus.emit(Notice("hello"))
    assert (heard, bus.has_listeners(Notice)) == ([], False)


NO_EVENTS = [
    pytest.param("Notice", id="the name of a class"),
    pytest.param("pulse.events.Notice", id="the path of a class"),
    pytest.param(Notice("hello"), id="an event"),
    pytest.param(events, id="the module"),
    pytest.param(object, id="another class"),
    pytest.param(None, id="nothing"),
]


@pytest.mark.parametrize("kind", NO_EVENTS)
def test_a_listener_of_what_is_no_class_of_events_hears_nothing(kind: object) -> None:
    """Events are looked up by their class alone."""
    bus, heard = EventBus(), []
    with suppress(TypeError, ValueError):
        bus.subscribe(kind, heard.append)
    bus.emit(Notice("hello"))
    assert heard == []


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("kind", NO_EVENTS)
def test_subscribing_to_what_is_no_class_of_events_is_refused(kind: object) -> None:
    """A listener that can never be called is a mistake of the caller, who learns of it at once."""
    accepted = False
    with suppress(TypeError, ValueError):
        EventBus().subscribe(kind, print)
        accepted = True
    assert not accepted


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
def test_subscribing_to_the_base_of_all_events_is_refused_or_hears_them_all() -> None:
    """No event is of exactly that class, so a listener of it would never be called."""
    bus, heard = EventBus(), []
    with suppress(TypeError, ValueError):
        bus.subscribe(Event, heard.append)
        bus.emit(Notice("hello"))
        assert heard == [Notice("hello")]


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("listener", ["print", None], ids=repr)
def test_subscribing_what_cannot_be_called_is_refused(listener: object) -> None:
    """Such a listener would fail at each event, far from the mistake."""
    accepted = False
    with suppress(TypeError, ValueError):
        EventBus().subscribe(Notice, listener)
        accepted = True
    assert not accepted


def test_a_copy_of_a_process_emits_nothing() -> None:
    """Once the mark is set, the scheduler's bus is silent, and the application's is not."""
    bus, mark, heard = EventBus(), ForkMark(), []
    own = bus.until_fork(mark)
    bus.subscribe(Notice, heard.append)
    own.emit(Notice("before the fork"))
    mark.set()
    own.emit(Notice("in the child"))
    bus.emit(Notice("of the child's own"))
    assert heard == [Notice("before the fork"), Notice("of the child's own")]
    assert own.has_listeners(Notice)


def test_a_fork_in_the_middle_of_a_listener_keeps_the_next_one_from_hearing() -> None:
    """A listener may wait while another greenlet forks: in the child nothing comes after it."""
    bus, mark, heard = EventBus(), ForkMark(), []
    bus.subscribe(Notice, lambda _: mark.set())
    bus.subscribe(Notice, heard.append)
    bus.until_fork(mark).emit(Notice("hello"))
    assert heard == []


def test_a_listener_that_fails_in_a_forked_child_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It began before the fork, and its copy is nobody's concern."""
    bus, mark = EventBus(), ForkMark()

    def fail_after_fork(_: Notice) -> None:
        mark.set()
        raise ValueError

    bus.subscribe(Notice, fail_after_fork)
    bus.until_fork(mark).emit(Notice("hello"))
    assert caplog.records == []
