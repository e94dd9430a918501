"""The lifecycles of this process and what they started; handles the process's fork and exit."""

from __future__ import annotations

import atexit
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from pulse.engine.loop_thread import spawn
from pulse.serving.base import RunningService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pulse.serving.base import Identity

L = TypeVar("L", bound=RunningService)
"""A lifecycle; the registry only stops, shuts down and forks it, as it does what was started."""


class Started:
    """A running service, and a weak reference to the lifecycle that started it.

    Attributes:
        lifecycle: the weak reference; it is dead once the middleware was dropped.
        running: what was started.
        identity: the identity of the lifecycle.
        accepts_work: asks the server; None while no server is known.
        time_left_s: asks the server; None while no server is known.
        keep_alive: what a detached service needs, such as the application; None otherwise.
        detached: whether the service continues after its middleware was dropped.

    """

    __slots__ = (
        "accepts_work",
        "detached",
        "identity",
        "keep_alive",
        "lifecycle",
        "running",
        "time_left_s",
    )

    def __init__(
        self,
        lifecycle: RunningService,
        running: RunningService,
        *,
        identity: Identity | None = None,
        accepts_work: Callable[[], bool] | None = None,
        time_left_s: Callable[[], float | None] | None = None,
        keep_alive: object = None,
    ) -> None:
        self.lifecycle: weakref.ref[RunningService] = weakref.ref(lifecycle)
        self.running: RunningService = running
        self.identity: Identity | None = identity
        self.accepts_work: Callable[[], bool] | None = accepts_work
        self.time_left_s: Callable[[], float | None] | None = time_left_s
        self.keep_alive: object = keep_alive
        self.detached: bool = keep_alive is not None

    def is_dropped(self) -> bool:
        """Return whether the lifecycle is gone and the service has to be shut down with it."""
        return not self.detached and self.lifecycle() is None

    def reattach(self) -> None:
        """Make the service end with its lifecycle again."""
        self.detached = False
        # `keep_alive` may be all that keeps the lifecycle alive. If the lifecycle is gone already,
        # the shutdown that follows still needs what is kept.
        if self.lifecycle() is not None:
            self.keep_alive = None

    def shutdown(self) -> None:
        """Shut the service down within the time that the server leaves."""
        self.running.shutdown(None if self.time_left_s is None else self.time_left_s())


class ProcessRegistry(Generic[L]):
    """Knows the lifecycles of this process, without keeping them alive, and what they started.

    What was started is kept until it was shut down, also if its middleware was dropped meanwhile.
    The service of a dropped middleware claims nothing more from the moment of the drop. It is shut
    down, within its drain, by its own loop, by the next lifecycle that starts, or by the exit of
    the process. A detached service (`start = eager`) continues until a lifecycle of the same
    identity starts.
    """

    __slots__ = ("_copies", "_hooked", "_lifecycles", "_shutting_down", "_started")

    def __init__(self) -> None:
        self._lifecycles: tuple[weakref.ref[L], ...] = ()
        self._started: list[Started] = []
        self._copies: list[RunningService] = []  # of the parent's, kept as `pulse.forks` says
        self._shutting_down = False
        self._hooked = False

    def add(self, lifecycle: L) -> None:
        """Register *lifecycle*: from now on its `forked` is called in forked children."""
        # One assignment: a fork in another thread sees either the old tuple or the new one.
        self._lifecycles = (
            *(known for known in self._lifecycles if known()),
            weakref.ref(lifecycle),
        )
        if not self._hooked:
            self._hooked = True
            os.register_at_fork(after_in_child=self._forked)

    def lifecycles(self) -> list[L]:
        """Return the lifecycles that are still alive, oldest first."""
        return [each for known in self._lifecycles if (each := known()) is not None]

    def started(self, started: Started) -> None:
        """Keep what was started until it was shut down."""
        self._started.append(started)

    def stopped(self, running: RunningService) -> None:
        """Forget a service that was shut down."""
        for each in [each for each in self._started if each.running is running]:
            with suppress(ValueError):  # another thread has removed it meanwhile
                self._started.remove(each)

    def has_dropped(self, identity: Identity | None) -> bool:
        """Return whether a service has to be shut down before one of *identity* can start."""
        self.reattach(identity)
        return any(each.is_dropped() for each in self._started)

    def accepts_detached_work(self, lifecycle: weakref.ref[L]) -> bool:
        """Return whether the detached service of a dropped lifecycle may claim runs."""
        for each in self._started:
            if each.lifecycle is lifecycle and each.detached:
                return each.accepts_work is None or each.accepts_work()
        return False

    def reattach(self, identity: Identity | None) -> None:
        """Make detached services of *identity* end with their lifecycle: another one starts."""
        for each in self._started:
            if identity is not None and each.identity == identity:
                each.reattach()

    def shutdown_dropped(self) -> None:
        """Shut down the services whose middleware was dropped, and wait for that."""
        dropped = [each for each in self._started if each.is_dropped()]
        for each in dropped:
            each.running.stop_claiming()
        for each in dropped:
            each.shutdown()
            self.stopped(each.running)

    def shutdown_dropped_in_thread(self) -> None:
        """Do the same in a thread: the caller is a scheduler loop that the shutdown ends."""
        if not self._shutting_down:
            self._shutting_down = True
            with suppress(RuntimeError):  # at the interpreter's exit, which shuts everything down
                spawn(self._run_shutdown_dropped, "pulse-shutdown")

    def _run_shutdown_dropped(self) -> None:
        try:
            self.shutdown_dropped()
        finally:
            self._shutting_down = False

    def shutdown_at_exit(self) -> None:
        """Shut everything down before the interpreter exits, and before earlier exit hooks run."""
        atexit.unregister(self.shutdown_all)
        atexit.register(self.shutdown_all)

    def shutdown_all(self) -> None:
        """Shut everything down; a second Ctrl-C or exit request cuts the drain short."""
        try:
            self._shutdown_all()
        except (KeyboardInterrupt, SystemExit):
            self._shutdown_all()

    def _shutdown_all(self) -> None:
        shutdown_in_order(self.lifecycles())
        for each in self._started:
            each.detached = False
        self.shutdown_dropped()

    def _forked(self) -> None:
        self._copies += [each.running for each in self._started]
        self._started = []
        self._shutting_down = False
        for copy in self._copies:
            copy.forked()
        for lifecycle in self.lifecycles():
            lifecycle.forked()


def shutdown_in_order(lifecycles: Iterable[RunningService]) -> None:
    """Stop all claims first, then drain one lifecycle after the other."""
    lifecycles = [*lifecycles]
    for each in lifecycles:
        each.stop_claiming()
    for each in lifecycles:
        each.shutdown(None)
