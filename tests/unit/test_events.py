from __future__ import annotations

import inspect
import logging
from contextlib import suppress
from functools import lru_cache, partial, wraps
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from pulse import events
from pulse.errors import ConfigError
from pulse.events import Event, EventBus, Notice, StoreUnavailable
from pulse.forks import ForkMark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

KINDS = [
    found
    for _, found in inspect.getmembers(events, inspect.isclass)
    if issubclass(found, Event) and found is not Event
]


def test_listener_receives_events_of_its_class_only() -> None:
    """An event of another class is not passed."""
    bus, heard = EventBus(), []
    bus.subscribe(Notice, heard.append)
    bus.emit(Notice("hello"))
    bus.emit(StoreUnavailable("gone"))
    assert heard == [Notice("hello")]


def test_listeners_are_called_in_the_order_of_subscription() -> None:
    """The log listener precedes listeners of the application."""
    bus, heard = EventBus(), []
    bus.subscribe(Notice, lambda _: heard.append(1))
    bus.subscribe(Notice, lambda _: heard.append(2))
    bus.emit(Notice("hello"))
    assert heard == [1, 2]


def test_exception_of_a_listener_is_logged_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The next listener is called, and the caller continues."""
    bus, heard = EventBus(), []
    bus.subscribe(Notice, lambda _: 1 / 0)
    bus.subscribe(Notice, heard.append)
    with caplog.at_level(logging.ERROR, logger="pulse"):
        bus.emit(Notice("hello"))
    assert heard == [Notice("hello")]
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_exception_that_ends_a_process_propagates(kind: type[BaseException]) -> None:
    """A process that is asked to exit exits."""

    def leave(_: Notice) -> None:
        raise kind

    bus = EventBus()
    bus.subscribe(Notice, leave)
    with pytest.raises(kind):
        bus.emit(Notice("hello"))


def test_bus_knows_whether_a_class_has_listeners() -> None:
    """An event without listeners need not be created."""
    bus = EventBus()
    bus.subscribe(Notice, print)
    assert (bus.has_listeners(Notice), bus.has_listeners(StoreUnavailable)) == (True, False)


def test_listener_may_subscribe_another_listener() -> None:
    """The new listener receives the next event, not the present one."""
    bus, heard = EventBus(), []
    bus.subscribe(Notice, lambda _: bus.subscribe(Notice, heard.append))
    bus.emit(Notice("one"))
    assert heard == []
    bus.emit(Notice("two"))
    assert heard == [Notice("two")]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_is_frozen_and_documented(kind: type[Event]) -> None:
    """Listeners share one event."""
    assert kind.__struct_config__.frozen
    assert inspect.getdoc(kind)


def test_repeated_subscription_has_no_effect() -> None:
    """The listener is called once per event."""
    bus, heard = EventBus(), []
    bus.subscribe(Notice, heard.append)
    bus.subscribe(Notice, heard.append)
    bus.emit(Notice("a"))
    assert heard == [Notice("a")]


def test_unsubscribed_listener_receives_nothing() -> None:
    """A second call of unsubscribe is harmless."""
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
def test_listener_of_another_class_receives_nothing(kind: object) -> None:
    """Listeners are found by the exact class of the event."""
    bus, heard = EventBus(), []
    with suppress(TypeError, ValueError):
        bus.subscribe(kind, heard.append)
    bus.emit(Notice("hello"))
    assert heard == []


@pytest.mark.parametrize("kind", NO_EVENTS)
def test_subscription_to_a_class_that_is_no_event_is_refused(kind: object) -> None:
    """Such a listener would never be called."""
    accepted = False
    with suppress(TypeError, ValueError):
        EventBus().subscribe(kind, print)
        accepted = True
    assert not accepted


def test_subscription_to_the_base_class_is_refused_or_receives_all_events() -> None:
    """No event has exactly this class, so the listener would never be called."""
    bus, heard = EventBus(), []
    with suppress(TypeError, ValueError):
        bus.subscribe(Event, heard.append)
        bus.emit(Notice("hello"))
        assert heard == [Notice("hello")]


@pytest.mark.parametrize("listener", ["print", None], ids=repr)
def test_subscription_of_an_object_that_is_not_callable_is_refused(listener: object) -> None:
    """The object would fail at each event, far from the mistake."""
    accepted = False
    with suppress(TypeError, ValueError):
        EventBus().subscribe(Notice, listener)
        accepted = True
    assert not accepted


@pytest.mark.parametrize("kind", NO_EVENTS)
def test_end_of_no_subscription_is_refused(kind: object) -> None:
    """The listener that it means would go on being called."""
    with pytest.raises(ConfigError, match=r"kind: expected a class of pulse\.events"):
        EventBus().unsubscribe(kind, print)


@pytest.mark.parametrize("kind", ["RunEnded", "pulse.events.RunEnded", "runended"])
def test_name_of_an_event_is_refused_with_its_class(kind: str) -> None:
    """The error names the class that is meant."""
    with pytest.raises(ConfigError, match=r"did you mean the class pulse\.events\.RunEnded\?"):
        EventBus().subscribe(kind, print)


def test_event_of_an_application_may_be_subscribed_to() -> None:
    """A subclass of `Event` is a class of events, wherever it was declared."""

    class Own(Event, frozen=True):
        """An event of the application."""

    bus, heard = EventBus(), []
    bus.subscribe(Own, heard.append)
    bus.emit(Own())
    assert heard == [Own()]


def test_class_derived_from_an_event_of_pulse_is_refused_with_that_event() -> None:
    """Pulse emits no such event, so the listener would never be called."""

    class Own(Notice, frozen=True):
        """An event that pulse does not know."""

    for method in (EventBus().subscribe, EventBus().unsubscribe):
        with pytest.raises(ConfigError, match=r"^kind: .*Own.*the class pulse\.events\.Notice\?"):
            method(Own, print)


async def hear_later(_: Notice) -> None:
    """An asynchronous listener."""


async def hear_streams(_: Notice) -> AsyncIterator[None]:
    """An asynchronous generator."""
    yield


def hear_in_steps(_: Notice) -> Iterator[None]:
    """A generator."""
    yield


class Later:
    """An object whose calls are asynchronous."""

    async def __call__(self, _: Notice) -> None:
        """Hear an event later."""


@pytest.mark.parametrize(
    "listener",
    [hear_later, hear_streams, hear_in_steps, Later(), Later().__call__, partial(hear_later)],
    ids=["async", "async generator", "generator", "object", "method", "partial"],
)
def test_listener_whose_body_would_never_run_is_refused(listener: Callable[..., object]) -> None:
    """Nothing awaits the coroutine or iterates over the generator."""
    with pytest.raises(ConfigError, match=r"^listener: expected .* neither asynchronous nor"):
        EventBus().subscribe(Notice, listener)


@pytest.mark.parametrize(
    "listener",
    [lambda: None, lambda _, other: other, lambda *, event: event, object],
    ids=["none", "two", "keyword only", "class"],
)
def test_listener_that_does_not_accept_one_event_is_refused(
    listener: Callable[..., object],
) -> None:
    """Each event would cause an error, far from the mistake; the error shows the parameters."""
    with pytest.raises(ConfigError, match=r"^listener: expected .* with the parameters \("):
        EventBus().subscribe(Notice, listener)


def decorated(function: Callable[..., None]) -> Callable[[Notice], None]:
    """Return a function that calls *function* with a further argument."""

    @wraps(function)
    def call(event: Notice) -> None:
        function([], event)

    return call


@pytest.mark.parametrize(
    "listener",
    [
        lambda *_: None,
        lambda _, other=1: other,
        decorated(lambda _, __: None),
        partial(lambda _, __: None, 1),
        lru_cache(lambda _: None),
        Mock(),
        [].append,
        print,
        dict,
    ],
    ids=["any", "default", "decorated", "partial", "cached", "mock", "method", "print", "type"],
)
def test_listener_that_accepts_one_event_is_subscribed(listener: Callable[..., object]) -> None:
    """A function without a signature is subscribed as well."""
    bus = EventBus()
    bus.subscribe(Notice, listener)
    assert bus.has_listeners(Notice)


def test_bus_in_a_forked_child_emits_nothing() -> None:
    """Only the bus of the scheduler is affected, not that of the application."""
    bus, mark, heard = EventBus(), ForkMark(), []
    own = bus.until_fork(mark)
    bus.subscribe(Notice, heard.append)
    own.emit(Notice("before the fork"))
    mark.set()
    own.emit(Notice("in the child"))
    bus.emit(Notice("of the child's own"))
    assert heard == [Notice("before the fork"), Notice("of the child's own")]
    assert own.has_listeners(Notice)


def test_fork_during_a_listener_stops_further_listeners_in_the_child() -> None:
    """Another greenlet may fork while the listener waits."""
    bus, mark, heard = EventBus(), ForkMark(), []
    bus.subscribe(Notice, lambda _: mark.set())
    bus.subscribe(Notice, heard.append)
    bus.until_fork(mark).emit(Notice("hello"))
    assert heard == []


def test_exception_of_a_listener_in_a_forked_child_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The listener was called before the fork; its copy has no effect."""
    bus, mark = EventBus(), ForkMark()

    def fail_after_fork(_: Notice) -> None:
        mark.set()
        raise ValueError

    bus.subscribe(Notice, fail_after_fork)
    bus.until_fork(mark).emit(Notice("hello"))
    assert caplog.records == []
