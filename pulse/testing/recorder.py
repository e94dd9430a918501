"""Records events, so that a test can wait for them instead of sleeping."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from pulse import events

if TYPE_CHECKING:
    from collections.abc import Callable

E = TypeVar("E", bound=events.Event)

BOUND_S = 10.0
"""How long `wait_for` waits before it fails."""


def event_kinds() -> list[type[events.Event]]:
    """Return every class of event."""
    return list(events.Event.__subclasses__())


class Recorder:
    """Records every event of a bus, in order."""

    def __init__(self, bus: events.EventBus) -> None:
        self.events: list[events.Event] = []
        self._news = threading.Condition()
        for kind in event_kinds():
            bus.subscribe(kind, self._note)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one class so far."""
        return [event for event in list(self.events) if isinstance(event, kind)]

    def wait_for(
        self, kind: type[E], count: int = 1, *, where: Callable[[E], bool] = lambda _: True
    ) -> list[E]:
        """Return the events of a class for which *where* holds, once there are *count* of them.

        Raises:
            AssertionError: there were fewer after ten seconds; the message shows all events.

        """

        def fitting() -> list[E]:
            return [event for event in self.of(kind) if where(event)]

        with self._news:
            enough = self._news.wait_for(lambda: len(fitting()) >= count, BOUND_S)
        assert enough, f"expected {count} {kind.__name__}, got {self.events}"
        return fitting()

    def _note(self, event: events.Event) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()
