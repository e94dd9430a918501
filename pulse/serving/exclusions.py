"""Requests and processes in which pulse must not begin by itself."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pulse.serving.call_stack import frames_out, innermost, module_of, within

if TYPE_CHECKING:
    from collections.abc import Mapping

SWITCH = "PULSE_START"
MARKS_OF_NO_SERVER = frozenset({"paste.testing", "paste.command_request"})
CALLERS_THAT_SERVE_NOBODY = (
    "celery",
    "django.test",
    "flask.testing",
    "gunicorn.dirty",
    "webtest",
    "werkzeug.test",
)


def is_switched_off() -> bool:
    """Return whether the environment says `PULSE_START=off`, which nothing overrides."""
    return os.environ.get(SWITCH, "").strip().lower() == "off"


def is_test_run() -> bool:
    """Return whether pytest runs in this process: servers inherit its variables, not its module."""
    return "pytest" in sys.modules


def serves_nobody(environ: Mapping[str, object]) -> bool:
    """Return whether this request comes from a test client, a shell or a command, not a server."""
    return (
        not MARKS_OF_NO_SERVER.isdisjoint(environ)
        or hasattr(sys, "ps1")
        or _is_called_by_no_server()
        or _is_master()
    )


def _is_called_by_no_server() -> bool:
    names = {module_of(frame) for frame in frames_out()}
    return any(within(name, caller) for name in names for caller in CALLERS_THAT_SERVE_NOBODY)


def _is_master() -> bool:
    frame = innermost("gunicorn")
    if frame is not None and not within(module_of(frame), "gunicorn.workers"):
        return True
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0
