"""Which of several middlewares of one identity takes part in a process: the one that is served.

Theory of operation
-------------------
A process may hold several middlewares of one identity: an application factory was called twice, for
a migration at the start or by a module that makes an application of its own. Only the one that the
server serves may take part. Which one that is, is found out in this order:

1. A middleware that was dropped does not count. Nothing in pulse keeps it alive: the question that
   the scheduler asks before each claim leads to the arrangement by a weak reference.
2. Where the server shows the application that it calls, references show which of the rivals it
   can reach (`pulse.serving.reach`): those are served, the others are not.
3. While the application is still being loaded nothing is claimed. The newest stands in for its
   rivals, which give way, until the loading is over and 1 and 2 can decide.
4. Where nothing decides, the rivals wait, and the one that a request reaches is served.

Two of one identity that are both served are an error, unless they share nothing.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final

from pulse.engine.loop_thread import spawn
from pulse.errors import EngineError
from pulse.serving.process_registry import REGISTRY
from pulse.serving.reach import reached

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pulse.serving.base import Identity, ManagedLifecycle, Server

LOOKS: Final = 2
"""How often what the server calls is asked for, a second apart, before a request must decide."""

UNDECIDED: Final = (
    "several PulseMiddlewares of one name and store are in use in this process, and nothing shows"
    " which of them the server serves: the first that a request reaches takes part; build the"
    " application once, or give each its own pulse.config.name"
)


class Rivalry:
    """What one member knows of its rivals, in this process.

    Args:
        identity: what it has in common with its rivals; None where it has none.
        note: takes a sentence for the log.

    Attributes:
        doubted: whether it has begun, and may not claim until it is known to be served.

    """

    __slots__ = ("_conflict", "_looks", "_note", "doubted")

    def __init__(self, identity: Identity | None, note: Callable[[str], None]) -> None:
        self._conflict = "" if identity is None else identity.conflict
        self._note = note
        self._looks = 0
        self.doubted: bool = False

    def gives_way(self, me: ManagedLifecycle, host: Server) -> bool:
        """Return whether *me* waits for a request, because a rival may be the served one."""
        rivals = rivals_in_use(me)
        found = _served(host, [me, *rivals]) if rivals else None
        if found:
            return me not in found
        self.doubted = bool(rivals) and not host.serving()
        if rivals and not self.doubted:
            self._note(UNDECIDED)
        return bool(rivals) and not self.doubted

    def take_place(self, me: ManagedLifecycle, host: Server) -> None:
        """Let rivals step back that only stood in, or that the server cannot reach as it can *me*.

        Raises:
            EngineError: a rival is served, and both would act as one.

        """
        for rival in _rivals(me):
            if rival.stands_in() or (self._conflict and _is_preferred(me, rival, host)):
                rival.step_back()
            elif rival.is_running() and self._conflict:
                raise EngineError(self._conflict)

    def settle(self, me: ManagedLifecycle, host: Server) -> bool:
        """Return whether *me* is served; while in doubt the loop asks at least each second."""
        self._looks += 1
        rivals = rivals_in_use(me) if self._looks == LOOKS else _rivals(me)
        found = (_served(host, [me, *rivals]) if self._looks <= LOOKS else None) or []
        served = me in found or not rivals
        if served:
            self.doubted = False
        if found:
            self._looks = LOOKS
            self._pass_on(me, found)
        elif rivals and self._looks == LOOKS:
            self._note(UNDECIDED)
        return served

    def _pass_on(self, me: ManagedLifecycle, found: Sequence[ManagedLifecycle]) -> None:
        """Begin the rivals that are served; beside one that is served too, they may be an error."""
        others = [each for each in found if each is not me]
        if me in found and others and self._conflict:
            self._note(self._conflict)
            return
        for each in others:
            spawn(each.begin_beside, "pulse-begin")


def is_reached(me: ManagedLifecycle, host: Server) -> bool:
    """Return whether the server can reach *me*; where nobody knows, whether nobody is beside it."""
    found = _served(host, [me])
    return len(REGISTRY.members()) == 1 if found is None else bool(found)


def rivals_in_use(me: ManagedLifecycle) -> list[ManagedLifecycle]:
    """Return the rivals of *me*, without those that were dropped but lie in a reference cycle."""
    if _rivals(me):
        gc.collect()
        REGISTRY.retire()
    return _rivals(me)


def _rivals(me: ManagedLifecycle) -> list[ManagedLifecycle]:
    return [each for each in REGISTRY.members() if each is not me and each.is_rival_of(me)]


def _is_preferred(me: ManagedLifecycle, rival: ManagedLifecycle, host: Server) -> bool:
    """Return whether the server can reach *me*, and its rival not."""
    found = _served(host, [me, rival]) or []
    return me in found and rival not in found


def _served(host: Server, wanted: Sequence[ManagedLifecycle]) -> list[ManagedLifecycle] | None:
    """Return which of them the server can reach; None where nobody knows."""
    try:
        application = host.application()
        return None if application is None else reached(application, wanted)
    # Servers change, and what they serve is somebody else's: nothing here may keep it from loading.
    except Exception:  # noqa: BLE001 - the reason is above
        return None
