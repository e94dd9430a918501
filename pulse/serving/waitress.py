"""waitress started by its own program or by `pserve`: one process, which builds and serves.

Any other process that builds an application may use it for anything; these two programs serve it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pulse.serving.call_stack import LoadingCall, frames_of, frames_out, module_of

if TYPE_CHECKING:
    from types import FrameType

    from pulse.serving.lifecycle import ServiceLifecycle

WAITRESS_SERVE = ("waitress.runner", "run")
PSERVE = ("pyramid.scripts.pserve", "run")


SERVE = ("waitress", "serve")
"""The function that serves, in either program; it takes the application as *app*."""


class WaitressMain:
    """The process that serves as soon as its application is loaded."""

    __slots__ = ("_loading", "_run", "_thread")

    def __init__(self, loading: LoadingCall, run: FrameType | None, thread: int) -> None:
        self._loading = loading
        self._run = run
        self._thread = thread

    def attach(self, lifecycle: ServiceLifecycle) -> None:
        """Start *lifecycle* now; it claims nothing until the application is loaded."""
        lifecycle.set_server(self)
        lifecycle.start_automatically()

    def accepts_work(self) -> bool:
        """Return whether the application is loaded, and its factory, if any, was called."""
        if not self._loading.is_over() or (self._run is not None and _calls_factory(self._run)):
            return False
        self._run = None
        return True

    def time_left_s(self) -> None:
        """Return None: waitress neither waits for its process nor kills it."""

    def application(self) -> object:
        """Return what waitress serves, once it does."""
        for frame in frames_of(self._thread):
            if _function(frame) == SERVE:
                return frame.f_locals.get("app")
        return None


def detect() -> WaitressMain | None:
    """Return the server if the application is being loaded for waitress, or None."""
    call: FrameType | None = None
    for frame in frames_out():
        if call is not None and _serves_waitress(frame):
            thread = threading.get_ident()
            return WaitressMain(LoadingCall(call, thread), frame, thread)
        call = frame
    return None


def _function(frame: FrameType) -> tuple[str, str]:
    return module_of(frame), frame.f_code.co_name


def _serves_waitress(frame: FrameType) -> bool:
    function = _function(frame)
    return function == WAITRESS_SERVE or (function == PSERVE and _uses_waitress(frame))


def _calls_factory(run: FrameType) -> bool:
    """Return whether `waitress-serve --call` has yet to call the factory, or is calling it."""
    return "call" in run.f_locals.get("kw", ())


def _uses_waitress(pserve: FrameType) -> bool:
    """Return whether the ini file that `pserve` reads names waitress as its server."""
    known = pserve.f_locals
    section = f"server:{known['server_name'] or 'main'}"
    settings = known["server_loader"].get_settings(section, known["config_vars"])
    return str(settings.get("use", "")).startswith("egg:waitress")
