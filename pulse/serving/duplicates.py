"""Which of several middlewares with one identity the server of this process calls.

Theory of operation
-------------------
A process may hold several middlewares of one identity: an application factory was called twice, for
a migration at the start or by a module that makes an application of its own. Only the one that the
server calls may run. It is determined in this order:

1. A middleware that was dropped does not count. Nothing in pulse keeps a middleware alive: the
   function that the scheduler calls before each claim holds a weak reference to the lifecycle.
2. If the server shows the application that it calls, references show which of the duplicates are
   reachable from it (`pulse.serving.references`): those are served, the others are not.
3. While the application is still being loaded nothing is claimed. The newest duplicate starts as a
   standby and the older ones are demoted, until the loading is over and 1 and 2 can decide.
4. If nothing decides, the duplicates wait, and the first one that receives a request is served.

If two of one identity are served, that is an error, unless they share nothing.

`pulse.serving.lifecycle` carries these steps out; this module answers the questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from pulse.serving.references import reachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

MAX_CHECKS: Final = 2
"""How often a standby looks for itself in what the server calls; after that a request decides."""

UNDECIDED: Final = (
    "several PulseMiddlewares of one name and store are in use in this process, and nothing shows"
    " which of them the server calls: the first one that receives a request runs; build the"
    " application once, or give each its own pulse.config.name"
)


def served_by(application: Callable[[], object], candidates: Sequence[T]) -> list[T] | None:
    """Return the candidates that the server's application can reach; None if that is unknown.

    Args:
        application: returns the application that the server calls, or None while it is unknown.
        candidates: the objects to look for.

    """
    try:
        top = application()
        return None if top is None else reachable(top, candidates)
    # Servers change, and the application is not pulse's: no error here may keep it from loading.
    except Exception:  # noqa: BLE001 - the reason is above
        return None
