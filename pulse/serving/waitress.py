"""waitress started by its own program or by `pserve`: one process, which builds and serves.

Elsewhere a process that builds an application may do anything with it; these two serve it next.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pulse.serving.call_stack import Loading, frames_of, frames_out, module_of

if TYPE_CHECKING:
    from types import FrameType

    from pulse.serving.base import ManagedLifecycle

WAITRESS_SERVE = ("waitress.runner", "run")
PSERVE = ("pyramid.scripts.pserve", "run")


SERVE = ("waitress", "serve")
"""The function that serves, whoever calls it; it takes the application as *app*."""


class WaitressMain:
    """The process that serves as soon as its application is loaded."""

    __slots__ = ("_loading", "_run", "_thread")

    def __init__(self, loading: Loading, run: FrameType | None, thread: int) -> None:
        self._loading = loading
        self._run = run
        self._thread = thread

    def enter(self, member: ManagedLifecycle) -> None:
        """Begin *member* now; it claims nothing until the application is loaded."""
        member.belong(self)
        member.enter()

    def serving(self) -> bool:
        """Return whether the application is loaded, and made by its factory where it has one."""
        if not self._loading.is_over() or (self._run is not None and _calls_factory(self._run)):
            return False
        self._run = None
        return True

    def limit_s(self) -> None:
        """Return None: waitress waits for nobody and kills nobody."""

    def application(self) -> object:
        """Return what waitress serves, once it does."""
        for frame in frames_of(self._thread):
            if _function(frame) == SERVE:
                return frame.f_locals.get("app")
        return None


def find() -> WaitressMain | None:
    """Return the place of an application that is loaded to be served by waitress, if it is."""
    call: FrameType | None = None
    for frame in frames_out():
        if call is not None and _serves_waitress(frame):
            thread = threading.get_ident()
            return WaitressMain(Loading(call, thread), frame, thread)
        call = frame
    return None


def _function(frame: FrameType) -> tuple[str, str]:
    return module_of(frame), frame.f_code.co_name


def _serves_waitress(frame: FrameType) -> bool:
    function = _function(frame)
    return function == WAITRESS_SERVE or (function == PSERVE and _uses_waitress(frame))


def _calls_factory(run: FrameType) -> bool:
    """Return whether `waitress-serve --call` has still to call the factory, or does so now."""
    return "call" in run.f_locals.get("kw", ())


def _uses_waitress(pserve: FrameType) -> bool:
    """Return whether the ini file that `pserve` reads names waitress as its server."""
    known = pserve.f_locals
    section = f"server:{known['server_name'] or 'main'}"
    settings = known["server_loader"].get_settings(section, known["config_vars"])
    return str(settings.get("use", "")).startswith("egg:waitress")
