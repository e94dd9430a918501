"""What is started in a process that serves requests, and what runs there afterwards.

`Service` is what a middleware hands over: it can be started in any process. `RunningService` is
what `Service.start` returns: it is a separate role because it must not keep the middleware alive,
so that a middleware that was dropped is freed while its last runs still drain. The third role,
`Server`, is detected; its `attach` takes a `pulse.serving.lifecycle.ServiceLifecycle`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

L_contra = TypeVar("L_contra", contravariant=True)


class Identity(NamedTuple):
    """What several middlewares of a process may have in common, so that only one may run.

    Attributes:
        key: equal for middlewares that act as one application.
        conflict: the error text where two of them are served; empty where both may run.

    """

    key: tuple[object, ...]
    conflict: str


class Reports(NamedTuple):
    """Where a lifecycle reports, each time with a sentence.

    Attributes:
        notice: that the detection of the server failed.
        failure: why a late start failed.
        disabled: why no service starts in this process, which serves: the configuration says so.

    """

    notice: Callable[[str], None]
    failure: Callable[[str], None]
    disabled: Callable[[str], None]


class RunningService(Protocol):
    """A service that was started in this process. It does not keep its `Service` alive."""

    def stop_claiming(self) -> None:
        """Claim no further run: the server is about to stop this process.

        It may be called from a signal handler, so it must not wait for a lock.
        """

    def shutdown(self, limit_s: float | None) -> None:
        """Drain for at most *limit_s* seconds less one, then interrupt; None: no limit is known.

        It is called once more, with a limit of one second, if the first call was interrupted.
        """

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy in a forked child. It must not wait."""


class Service(Protocol):
    """What is started once in each process that serves requests."""

    def set_accepting(self, accepts_work: Callable[[], bool]) -> None:
        """Take the function to call before each claim: does this process accept new work?

        It is set once, before anything else. A call costs about a microsecond. A call at least
        once a second also measures how much time is left when the server stops.
        """

    def start(self) -> RunningService:
        """Start in this process, after its fork, and return what was started.

        In a forked child it is called again, after `forked`; nothing of the parent's is reused.
        An exception before the first request makes the server's start fail, but for
        `StoreFolderError`: it is reported, and the application is served without the service.
        """

    def forked(self) -> None:
        """Leave what was started to the parent: this is a forked child.

        It is called in every forked child, whether anything was started in the parent or not, by
        the thread or greenlet that forked. It must not wait.
        """


class Server(Protocol[L_contra]):
    """The server around this process, as far as it is known."""

    def attach(self, lifecycle: L_contra) -> None:
        """Start *lifecycle* at the right moment, and hook its shutdown."""

    def accepts_work(self) -> bool:
        """Return whether the server still wants new work from this process."""

    def time_left_s(self) -> float | None:
        """Return how many seconds this process may still live, or None if that is unknown."""

    def application(self) -> object:
        """Return the application that the server calls, or None while it is unknown."""
