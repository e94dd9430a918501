"""What can happen, one frozen class an event, and the bus that tells the listeners.

An event says what is already so: a run's end is recorded first and told after. A listener that
raises is logged and breaks neither the run nor the loop.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pulse.forks import ForkMark

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Instant, Span
    from pulse.core.run import Claim, Result, Run


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that happened."""


class SchedulerStarted(Event, frozen=True, gc=False):
    """This process began to take part; *scope* says how far "once" goes.

    *name* is `pulse.config.name`. With *chosen* the configuration says which store it is: there
    the name alone tells applications apart.
    """

    holder: str
    mode: str
    store: str
    scope: str
    tasks: int
    name: str = ""
    chosen: bool = False


class SchedulerStopped(Event, frozen=True, gc=False):
    """This process takes no more part; *interrupted* runs did not end within the drain."""

    holder: str
    interrupted: int


class TickMissed(Event, frozen=True, gc=False):
    """Fire times passed that nobody was there to run in time; `run.count` says how many."""

    run: Run


class TickSkipped(Event, frozen=True, gc=False):
    """A tick found no room: earlier runs of its task were still going."""

    run: Run


class RunClaimed(Event, frozen=True, gc=False):
    """This process won a tick and hands it to its engine."""

    claim: Claim


class RunOverdue(Event, frozen=True, gc=False):
    """A run passed its timeout and cannot be interrupted; it goes on, its slot is free again."""

    claim: Claim
    left_behind: int


class RunEnded(Event, frozen=True, gc=False):
    """A run ended here, and the store has recorded it."""

    claim: Claim
    result: Result


class RunRetrying(Event, frozen=True, gc=False):
    """An attempt ended here, the store has recorded it, and the run is tried again."""

    claim: Claim
    result: Result
    retry_at: Instant


class RetryExpired(Event, frozen=True, gc=False):
    """No process was free to retry a run in time: it has ended as its last attempt did."""

    run: Run


class ClaimLost(Event, frozen=True, gc=False):
    """A run ended here after its claim was lost: the store refused the record."""

    claim: Claim
    result: Result


class RunAbandoned(Event, frozen=True, gc=False):
    """A run's holder died or fell silent for a lease; any process may find that."""

    run: Run


class StoreUnavailable(Event, frozen=True, gc=False):
    """The store does not answer: nothing is dispatched until it does."""

    error: str


class StoreRecovered(Event, frozen=True, gc=False):
    """The store answers again."""

    after_us: Span


class SchedulerError(Event, frozen=True, gc=False):
    """An unexpected error in the loop, which goes on; *task* is named where it is known."""

    error: BaseException
    task: str = ""


class DefinitionsSuperseded(Event, frozen=True, gc=False):
    """Live processes hold different definitions, as in a rolling deploy.

    Without a *name*, `pulse.config.name`, they may be those of another application.
    """

    tasks: tuple[str, ...]
    name: str = ""


class ConfigMismatch(Event, frozen=True, gc=False):
    """Live processes, named by their holders, have another configuration than this one."""

    holders: tuple[str, ...]


class TasksChanged(Event, frozen=True, gc=False):
    """This process gave these tasks of the configuration another definition as it started."""

    tasks: tuple[str, ...]


class TaskAdded(Event, frozen=True, gc=False):
    """A task was added at run time, here; with *replace* perhaps in the place of another."""

    task: str
    replace: bool


class TaskRemoved(Event, frozen=True, gc=False):
    """A task that had been added at run time was removed, here."""

    task: str


class TasksOverridden(Event, frozen=True, gc=False):
    """The configuration declares tasks that had been added at run time, and stands from now on."""

    tasks: tuple[str, ...]


class TasksArchived(Event, frozen=True, gc=False):
    """No live process has wanted these tasks for long: they are put away, with what was due."""

    tasks: tuple[str, ...]


class StartFailed(Event, frozen=True, gc=False):
    """The tasks cannot run here: this process could not begin, or its children could not load."""

    problem: str


class Notice(Event, frozen=True, gc=False):
    """Something a person should know about how pulse runs here."""

    text: str


E = TypeVar("E", bound=Event)
EventListener = "Callable[[Any], None]"

_log = logging.getLogger("pulse")


class EventBus:
    """Tells each listener of the events it asked for, in the order in which they subscribed."""

    __slots__ = ("_listeners", "_mark")

    def __init__(self) -> None:
        self._listeners: dict[type[Event], tuple[Callable[[Any], None], ...]] = {}
        self._mark = ForkMark()

    def until_fork(self, mark: ForkMark) -> EventBus:
        """Return a bus with the same listeners, now and later, on which a copy emits nothing."""
        bus = EventBus()
        bus._listeners = self._listeners
        bus._mark = mark
        return bus

    def subscribe(self, kind: type[E], listener: Callable[[E], None]) -> None:
        """Call *listener* with each event of exactly the class *kind* from now on, once."""
        known = self._listeners.get(kind, ())
        if listener not in known:
            self._listeners[kind] = (*known, listener)

    def unsubscribe(self, kind: type[E], listener: Callable[[E], None]) -> None:
        """Call *listener* no more; harmless when it does not listen."""
        left = tuple(known for known in self._listeners.get(kind, ()) if known != listener)
        if left:
            self._listeners[kind] = left
        else:
            self._listeners.pop(kind, None)

    def has_listeners(self, kind: type[Event]) -> bool:
        """Return whether anybody listens: an event that nobody hears need not be made."""
        return kind in self._listeners

    def emit(self, event: Event) -> None:
        """Tell the listeners of the event's class; what they raise is logged."""
        for listener in self._listeners.get(type(event), ()):
            if self._mark.in_child:  # a listener before this one may have waited meanwhile
                return
            try:
                listener(event)
            # A listener is somebody else's code: its failure must not break a run or the loop.
            except Exception:  # noqa: BLE001 - the reason is above
                if not self._mark.in_child:
                    _log.exception("listener %r failed on %s", listener, type(event).__name__)
