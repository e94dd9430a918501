"""The events of pulse, each a frozen class, and the bus that passes events to listeners.

An event is emitted after the fact: the end of a run is recorded before `RunEnded` is emitted. An
exception of a listener is logged, and stops neither the run nor the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pulse.core.signatures import runs_later, signature_of, takes
from pulse.errors import ConfigError, StoreProblem, shown
from pulse.forks import ForkMark

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Instant, Span
    from pulse.core.run import Claim, Result, Run


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that happened."""


class SchedulerStarted(Event, frozen=True, gc=False):
    """The scheduler of this process started.

    Attributes:
        holder: the identity of this process.
        mode: the name of the engine.
        store: the name of the store.
        scope: the reach of the store, a value of `Scope`.
        tasks: the number of configured tasks.
        name: `pulse.config.name`.
        chosen: whether the configuration names the store; then only *name* separates applications.
        paused: the configured tasks that are paused, after an empty name if all tasks are.

    """

    holder: str
    mode: str
    store: str
    scope: str
    tasks: int
    name: str = ""
    chosen: bool = False
    paused: tuple[str, ...] = ()


class SchedulerStopped(Event, frozen=True, gc=False):
    """The scheduler of this process stopped; *interrupted* runs did not finish within the drain."""

    holder: str
    interrupted: int


class TickMissed(Event, frozen=True, gc=False):
    """Fire times passed that no process ran in time; `run.count` is their number."""

    run: Run


class TickSkipped(Event, frozen=True, gc=False):
    """The overlap policy skipped a tick: earlier runs of its task were unfinished."""

    run: Run


class RunClaimed(Event, frozen=True, gc=False):
    """This process claimed a run and passes it to its engine."""

    claim: Claim


class RunOverdue(Event, frozen=True, gc=False):
    """A run passed its timeout and cannot be interrupted; it continues, and its slot is free.

    *left_behind* is the number of such runs in this process.
    """

    claim: Claim
    left_behind: int


class RunEnded(Event, frozen=True, gc=False):
    """A run finished in this process, and the store has recorded the result."""

    claim: Claim
    result: Result


class RunRetrying(Event, frozen=True, gc=False):
    """An attempt finished in this process, and the store has scheduled a retry."""

    claim: Claim
    result: Result
    retry_at: Instant


class RetryExpired(Event, frozen=True, gc=False):
    """No process started a retry or rerun in time; the run has the outcome of its last attempt."""

    run: Run


class TaskRewound(Event, frozen=True, gc=False):
    """The clock was set back: the next run of a task is another one than its schedule says.

    Attributes:
        task: the name of the task.
        partition: the part of the fleet.
        refused: the first fire time that does not run, since it was decided while the clock was
            ahead; None if the task only runs earlier than it would have.
        next_fire: the fire time that runs next; None for none.

    """

    task: str
    partition: str
    refused: Instant | None
    next_fire: Instant | None


class ClaimLost(Event, frozen=True, gc=False):
    """A run finished in this process after its claim was lost; the store refused the result."""

    claim: Claim
    result: Result


class RunAbandoned(Event, frozen=True, gc=False):
    """The holder of a run died, or did not renew its lease; any process may detect it."""

    run: Run


class StoreUnavailable(Event, frozen=True, gc=False):
    """The store cannot be used; no run starts until it can.

    The event is emitted when an outage begins, when its reason changes, and every five minutes.

    Attributes:
        error: the reason.
        problem: whether the store is silent, refuses calls, or was replaced.
        after_us: for how long the outage has lasted; 0 when it begins.

    """

    error: str
    problem: StoreProblem = StoreProblem.SILENT
    after_us: Span = 0


class StoreRecovered(Event, frozen=True, gc=False):
    """The store answers again."""

    after_us: Span


class BrokerUnavailable(Event, frozen=True, gc=False):
    """The broker of a queue does not answer; this process hands no run over until it does.

    Attributes:
        broker: the broker, without a password.
        error: the reason.

    """

    broker: str
    error: str


class BrokerRecovered(Event, frozen=True, gc=False):
    """The broker answers again."""

    broker: str
    after_us: Span


class SchedulerError(Event, frozen=True, gc=False):
    """An unexpected error in the loop, which continues; *task* is empty if it is unknown."""

    error: BaseException
    task: str = ""


class DefinitionsSuperseded(Event, frozen=True, gc=False):
    """Other live processes have newer definitions of *tasks*, as in a rolling deploy.

    Without a *name*, `pulse.config.name`, they may be processes of another application. An event
    without tasks reports that all definitions of this process are active again.
    """

    tasks: tuple[str, ...]
    name: str = ""


class ConfigMismatch(Event, frozen=True, gc=False):
    """Live processes, identified by *holders*, declare other tasks than this process."""

    holders: tuple[str, ...]


class TasksChanged(Event, frozen=True, gc=False):
    """This process changed the definitions of configured tasks when it started."""

    tasks: tuple[str, ...]


class TaskAdded(Event, frozen=True, gc=False):
    """This process added a task at run time; with *replace* it may have replaced another task.

    *by* is who asked for it, as the caller has passed it; empty if the caller has not.
    """

    task: str
    replace: bool
    by: str = ""


class TaskRemoved(Event, frozen=True, gc=False):
    """This process removed a run-time task; *by* as in `TaskAdded`.

    *done* says that nobody asked: the task has `remove_when_done`, and nothing left to run.
    """

    task: str
    by: str = ""
    done: bool = False


class TaskPaused(Event, frozen=True, gc=False):
    """This process paused a task, for the whole fleet; *by* as in `TaskAdded`.

    *task* is empty if all tasks were paused.

    *until* is when the pause ends by itself, None for never; *note* says why.
    """

    task: str
    by: str = ""
    until: Instant | None = None
    note: str = ""


class TaskResumed(Event, frozen=True, gc=False):
    """This process resumed a task, for the whole fleet; *by* as in `TaskAdded`.

    *task* is empty if the pause of all tasks has ended.

    *ended* is True if the pause has ended by itself.
    """

    task: str
    by: str = ""
    ended: bool = False


class TaskTriggered(Event, frozen=True, gc=False):
    """This process asked for a manual run of a task; *by* as in `TaskAdded`.

    *run* is None if the overlap policy has refused the run.
    """

    task: str
    run: Run | None
    by: str = ""


class RunStopped(Event, frozen=True, gc=False):
    """This process asked for a run to be stopped; *by* as in `TaskAdded`, *note* says why.

    *run* is the run as it was found: the process that holds a run in progress stops it later.
    """

    run: Run
    by: str = ""
    note: str = ""


class RunsDeleted(Event, frozen=True, gc=False):
    """This process deleted ended runs of a task, or of all tasks; *by* as in `TaskAdded`.

    *note* says which runs, such as `runs older than 30d`.
    """

    number: int
    task: str
    by: str = ""
    note: str = ""


class TasksOverridden(Event, frozen=True, gc=False):
    """The configuration declares tasks that were added at run time, and replaces them."""

    tasks: tuple[str, ...]


class TasksArchived(Event, frozen=True, gc=False):
    """Tasks were archived, since no live process has declared them for three leases."""

    tasks: tuple[str, ...]


class StartFailed(Event, frozen=True, gc=False):
    """The tasks cannot run here: this process, or a child process, could not start."""

    problem: str


class StartDisabled(Event, frozen=True, gc=False):
    """This process serves, and starts no scheduler, because the configuration says so."""

    reason: str


class Notice(Event, frozen=True, gc=False):
    """A remark for the operator about how pulse runs in this process."""

    text: str


E = TypeVar("E", bound=Event)
EventListener = "Callable[[Any], None]"


class EventBus:
    """Calls listeners with the events that they subscribed to, in the order of subscription."""

    __slots__ = ("_listeners", "_mark")

    def __init__(self) -> None:
        self._listeners: dict[type[Event], tuple[Callable[[Any], None], ...]] = {}
        self._mark = ForkMark()

    def until_fork(self, mark: ForkMark) -> EventBus:
        """Return a bus that shares the listeners, and emits nothing in a forked child of *mark*."""
        bus = EventBus()
        bus._listeners = self._listeners
        bus._mark = mark
        return bus

    def subscribe(self, kind: type[E], listener: Callable[[E], None]) -> None:
        """Call *listener* once for each event of exactly the class *kind* from now on.

        Raises:
            ConfigError: *kind* is no class of events, or is derived from another event of pulse, or
                *listener* cannot be called with one event, or its body would not run when called.

        """
        if problems := [*filter(None, (_kind_problem(kind), _listener_problem(listener)))]:
            raise ConfigError(problems)
        known = self._listeners.get(kind, ())
        if listener not in known:
            self._listeners[kind] = (*known, listener)

    def unsubscribe(self, kind: type[E], listener: Callable[[E], None]) -> None:
        """Stop the calls of *listener*; does nothing if it is not subscribed.

        Raises:
            ConfigError: *kind* is no class of events.

        """
        if problem := _kind_problem(kind):
            raise ConfigError([problem])
        left = tuple(known for known in self._listeners.get(kind, ()) if known != listener)
        if left:
            self._listeners[kind] = left
        else:
            self._listeners.pop(kind, None)

    def has_listeners(self, kind: type[Event]) -> bool:
        """Return whether the class has a listener; otherwise the event need not be created."""
        return kind in self._listeners

    def emit(self, event: Event) -> None:
        """Call the listeners of the event's class; log the exceptions that they raise."""
        for listener in self._listeners.get(type(event), ()):
            if self._mark.in_child:  # while an earlier listener waited, the process may have forked
                return
            try:
                listener(event)
            # A listener is code of the application: its failure must not stop a run or the loop.
            except Exception as error:  # noqa: BLE001 - the reason is above
                if not self._mark.in_child:
                    _log_failure(listener, event, error)


def _log_failure(listener: object, event: Event, error: Exception) -> None:
    import logging  # a command on a store, which emits events as well, logs nothing

    from pulse.logger import log

    name = type(event).__name__
    log(logging.ERROR, f"listener {listener!r} failed on {name}", error=error)


def _kind_problem(kind: object) -> str:
    """Return what is wrong with a class of events: only events of that very class are passed."""
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event:
        return _derivation_problem(kind)
    name = kind.rpartition(".")[2] if isinstance(kind, str) else type(kind).__name__
    classes = {each.__name__.lower(): each.__name__ for each in Event.__subclasses__()}
    near = classes.get(name.lower())
    hint = f"; did you mean the class pulse.events.{near}?" if near else ""
    return f"kind: expected a class of pulse.events, such as RunEnded, got {shown(kind)}{hint}"


def _derivation_problem(kind: type[Event]) -> str:
    """Return what is wrong with a class that is derived from an event of pulse."""
    for base in kind.__mro__[1:]:
        if base.__module__ == __name__ and base is not Event:
            return (
                "kind: expected a class of pulse.events itself, because pulse emits no event of a "
                f"derived class, got {shown(kind)}; did you mean the class "
                f"pulse.events.{base.__name__}?"
            )
    return ""


def _listener_problem(listener: object) -> str:
    if not callable(listener):
        return f"listener: expected a function of one event, got {shown(listener)}"
    if runs_later(listener) or runs_later(type(listener).__call__):
        return (
            "listener: expected a function of one event that is neither asynchronous nor a "
            f"generator, because its body would never run, got {shown(listener)}; pass a function "
            "that runs it, such as lambda event: asyncio.run(listener(event))"
        )
    # The outermost function is called: a decorator may add arguments to the call of what it wraps.
    if not takes(listener, None, follow_wrapped=False):
        parameters = signature_of(listener, follow_wrapped=False)
        return (
            "listener: expected a function of one event, which is its only argument, "
            f"got {shown(listener)} with the parameters {parameters}"
        )
    return ""
