"""The promises between the server's side and what is served.

Theory of operation
-------------------
An application is built in many processes that never serve a request: a master that loads it
before it forks, a reloader's parent, a shell, a migration, a check of the configuration. So the
question is asked three times, each time only if it is still open:

    built      the stack of calls shows who builds: a gunicorn or uWSGI worker, waitress, pserve
    forked     in the child, the stack shows whether gunicorn has just made a worker
    requested  the first request in a process shows that it serves

What is found is a `Place`: it enters the member, that is, begins it at the right moment and hooks
its end. A place that is not recognised only puts the beginning off to the first request.

All that is known belongs to one process: after a fork the child starts from nothing. But one thing
is remembered: a process that gevent has patched copies its greenlets into every child, those that
accept connections included. So a child of one that serves may answer requests by accident, and no
request begins it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Identity(NamedTuple):
    """What several middlewares of a process may have in common, so that one alone may take part.

    Attributes:
        key: equal for those that act as one application.
        conflict: what is wrong where two of them are served; empty where both may take part.

    """

    key: tuple[object, ...]
    conflict: str


class Service(Protocol):
    """What begins with a process that serves."""

    def set_accepting(self, serving: Callable[[], bool]) -> None:
        """Take the question to ask before each claim: does this process still take new work?

        It is handed over once, before anything else; asking costs about a microsecond. Asked at
        least once a second, it also measures how much time is left when the server stops.
        """

    def start(self) -> RunningService:
        """Start taking part: once in a process, after its fork; return what ends it.

        A child of a process that has begun begins anew, after `forked`; nothing of the parent's is
        used. What it raises before the first request is an error of the server's start.
        """

    def forked(self) -> None:
        """Leave what has begun to the parent: this is a forked child, in which nothing of it acts.

        It is called in every forked child, whether anything had begun in the parent or not, by
        whichever thread or greenlet has forked. It must not wait.
        """


class RunningService(Protocol):
    """What takes part in a process, and does not keep what it belongs to alive."""

    def stop_claiming(self) -> None:
        """Claim nothing more: the server is about to stop this process.

        It may be called from a signal's handler, so it must not wait for a lock.
        """

    def shutdown(self, limit_s: float | None) -> None:
        """Drain for at most *limit_s* seconds less one, then interrupt; None is no limit known.

        It is called once more, with a limit of one second, when the first call was cut short.
        """

    def forked(self) -> None:
        """Leave it to the parent: this is a copy in a forked child. It must not wait."""


class Server(Protocol):
    """The server around this process, once it is known."""

    def serving(self) -> bool:
        """Return whether the server still wants new work from this process."""

    def limit_s(self) -> float | None:
        """Return how long this process may still live, or None where nothing is known."""

    def application(self) -> object:
        """Return the application that the server calls; None while that is not known."""


class ManagedLifecycle(Protocol):
    """One middleware's part in this process, as places and its rivals see it."""

    identity: Identity | None

    def belong(self, host: Server) -> None:
        """Take *host* for the server around this process."""

    def is_begun(self) -> bool:
        """Return whether it has begun in this process."""

    def enter(self) -> None:
        """Begin, unless it has begun already or must never begin by itself."""

    def begin(self) -> None:
        """Begin, unless it has begun already: somebody asked for it."""

    def quiet(self) -> None:
        """Claim nothing more."""

    def end(self) -> None:
        """Drain and end, unless it has not begun or has ended already."""

    def may_be_dropped(self) -> bool:
        """Return whether only the garbage collector can say if this one is still in use."""

    def is_rival_of(self, other: ManagedLifecycle) -> bool:
        """Return whether this one might take part in the place of *other*."""

    def is_idle(self) -> bool:
        """Return whether it takes part only if somebody begins it by hand, and nobody has."""

    def is_running(self) -> bool:
        """Return whether it has begun, without an error, and has not ended."""

    def stands_in(self) -> bool:
        """Return whether it has begun but may not claim yet: a rival may be the served one."""

    def step_back(self) -> None:
        """End what has begun, and wait until it shows that this one is served after all."""

    def begin_beside(self) -> None:
        """Begin, in a thread of its own."""

    def forked(self) -> None:
        """Forget the parent's state: this is the child."""

    def note(self, text: str) -> None:
        """Tell whoever reads debug notices."""


class Detection(Protocol):
    """Where in a server the application is being built, forked or asked."""

    def enter(self, member: ManagedLifecycle) -> None:
        """Begin *member* at the right moment, and see to its end."""


class AnyServer:
    """A server of which nothing is known: it wants work until the process ends."""

    __slots__ = ()

    def serving(self) -> bool:
        """Return True."""
        return True

    def limit_s(self) -> float | None:
        """Return None."""
        return None

    def application(self) -> object:
        """Return None."""
        return None
