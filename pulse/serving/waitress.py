"""waitress started by its own program or by `pserve`: one process, which builds and serves.

Elsewhere a process that builds an application may do anything with it; these two serve it next.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pulse.serving.call_stack import Loading, frames_out, module_of

if TYPE_CHECKING:
    from types import FrameType

    from pulse.serving.base import Member

WAITRESS_SERVE = ("waitress.runner", "run")
PSERVE = ("pyramid.scripts.pserve", "run")


class WaitressMain:
    """The process that serves as soon as its application is loaded."""

    __slots__ = ("_loading",)

    def __init__(self, loading: Loading) -> None:
        self._loading = loading

    def enter(self, member: Member) -> None:
        """Begin *member* now; it claims nothing until the application is loaded."""
        member.belong(self)
        member.enter()

    def serving(self) -> bool:
        """Return whether the application is loaded."""
        return self._loading.is_over()

    def limit_s(self) -> None:
        """Return None: waitress waits for nobody and kills nobody."""


def find() -> WaitressMain | None:
    """Return the place of an application that is loaded to be served by waitress, if it is."""
    call: FrameType | None = None
    for frame in frames_out():
        if call is not None and _serves_waitress(frame):
            return WaitressMain(Loading(call, threading.get_ident()))
        call = frame
    return None


def _serves_waitress(frame: FrameType) -> bool:
    function = (module_of(frame), frame.f_code.co_name)
    return function == WAITRESS_SERVE or (function == PSERVE and _uses_waitress(frame))


def _uses_waitress(pserve: FrameType) -> bool:
    """Return whether the ini file that `pserve` reads names waitress as its server."""
    known = pserve.f_locals
    section = f"server:{known['server_name'] or 'main'}"
    settings = known["server_loader"].get_settings(section, known["config_vars"])
    return str(settings.get("use", "")).startswith("egg:waitress")
