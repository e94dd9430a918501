"""The identity of a middleware, from its settings: in its process and in a child process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from pulse.engine.child_protocol import MiddlewareFingerprint
from pulse.errors import shown
from pulse.serving.base import Identity

if TYPE_CHECKING:
    from pulse.config.settings import Settings

_STORE_SHARED: Final = (
    "pulse.config.name: expected one for each PulseMiddleware that a process serves, got two"
    " {whose} on one store; where one filter section is built twice, put it in front of both"
    " applications, or write a section for each"
)
_CHILDREN_DIFFER: Final = (
    "pulse.config.name: expected one for each PulseMiddleware that a process serves, got two with"
    " the same tasks and name: under mode = processing a child process could not distinguish them,"
    " and might call the wrong application"
)


_SERVERS: Final = {
    "uwsgi": "uwsgi",
    "mod_wsgi": "mod_wsgi",
    "gunicorn.workers.base": "gunicorn",
    "waitress.server": "waitress",
    "cheroot.wsgi": "cheroot",
}
"""Servers by a module that only a process of theirs imports."""


def server_name() -> str:
    """Return the name of the server that runs this process; empty if it is not known."""
    return next((name for module, name in _SERVERS.items() if module in sys.modules), "")


def identity_of(settings: Settings) -> Identity:
    """Return the identity, which is equal for middlewares that act as one application.

    Middlewares that share a store under one name have one identity. Each `memory:` is a store of
    its own, so there only middlewares with the same tasks have one identity. Both of these may
    run, except under `mode = processing`: a child process could not identify its parent.
    """
    name, store = settings.name or "", settings.store or ""
    if store == "memory:":
        conflict = _CHILDREN_DIFFER if settings.mode == "processing" else ""
        return Identity((store, name, settings.digest, settings.application), conflict)
    local = store.startswith("sqlite:") or not (store or name)
    whose = f"under the name {shown(name)}" if name else "without a name"
    conflict = _STORE_SHARED.format(whose=whose)
    return Identity((store, name, settings.origin if local else ""), conflict)


def fingerprint_of(settings: Settings) -> MiddlewareFingerprint:
    """Return the fingerprint by which a child process recognises its parent's middleware."""
    return MiddlewareFingerprint(
        name=settings.name,
        store=settings.store,
        application=settings.application,
        digest=settings.digest,
    )
