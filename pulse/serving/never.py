"""Requests and processes in which pulse must not begin by itself."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pulse.serving.frames import frames_out, innermost, module_of, within

if TYPE_CHECKING:
    from collections.abc import Mapping

SWITCH = "PULSE_START"
CALLERS_THAT_SERVE_NOBODY = {
    "celery": "a Celery worker",
    "django.test": "a test client",
    "flask.testing": "a test client",
    "gunicorn.dirty": "gunicorn's dirty workers",
    "werkzeug.test": "a test client",
    "webtest": "a test client",
}


def is_switched_off() -> bool:
    """Return whether the environment says `PULSE_START=off`, which nothing overrides."""
    return os.environ.get(SWITCH, "").strip().lower() == "off"


def is_test_run() -> bool:
    """Return whether pytest runs in this process: servers inherit its variables, not its module."""
    return "pytest" in sys.modules


def why_not(environ: Mapping[str, object]) -> str:
    """Return why this request does not show that the process serves, or an empty string."""
    if "paste.testing" in environ:
        return "a test client"
    if hasattr(sys, "ps1"):
        return "an interactive shell"
    return _caller_that_serves_nobody() or _master()


def _caller_that_serves_nobody() -> str:
    for frame in frames_out():
        name = module_of(frame)
        for package, words in CALLERS_THAT_SERVE_NOBODY.items():
            if within(name, package):
                return words
    return ""


def _master() -> str:
    frame = innermost("gunicorn")
    if frame is not None and not within(module_of(frame), "gunicorn.workers"):
        return "gunicorn's master"
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and uwsgi.worker_id() == 0:
        return "uWSGI's master"
    return ""
