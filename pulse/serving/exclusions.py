"""Requests and processes that must not start pulse automatically."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pulse.core.policies import Start
from pulse.serving.call_stack import frames_out, innermost, module_of, within

if TYPE_CHECKING:
    from collections.abc import Mapping

START_VARIABLE = "PULSE_START"
CLIENT_MARKS = frozenset({"paste.testing", "paste.command_request"})
CLIENT_MODULES = (
    "celery",
    "django.test",
    "flask.testing",
    "gunicorn.dirty",
    "webtest",
    "werkzeug.test",
)


def is_switched_off() -> bool:
    """Return whether the environment says `PULSE_START=off`, which nothing overrides."""
    return os.environ.get(START_VARIABLE, "").strip().lower() == "off"


def why_disabled(start: Start) -> str:
    """Return why the configuration forbids an automatic start; empty if it does not."""
    if is_switched_off():
        return f"the environment variable {START_VARIABLE} is off"
    if start is Start.OFF:
        return "pulse.config.start is off, and no hook of pulse.gunicorn has started one"
    return ""


def is_test_run() -> bool:
    """Return whether pytest runs in this process.

    The module is the test, not a variable: a server that a test starts inherits variables.
    """
    return "pytest" in sys.modules


def is_server_request(environ: Mapping[str, object]) -> bool:
    """Return whether this request comes from a server, not a test client, a shell or a command."""
    return not (
        not CLIENT_MARKS.isdisjoint(environ)
        or hasattr(sys, "ps1")
        or _is_called_by_client()
        or _is_in_master()
    )


def _is_called_by_client() -> bool:
    names = {module_of(frame) for frame in frames_out()}
    return any(within(name, caller) for name in names for caller in CLIENT_MODULES)


def _is_in_master() -> bool:
    frame = innermost("gunicorn")
    if frame is not None and not within(module_of(frame), "gunicorn.workers"):
        return True
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0
