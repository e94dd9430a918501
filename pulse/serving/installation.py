"""Detects the server around this process, and gives a service its lifecycle there."""

from __future__ import annotations

import gc
import warnings
import weakref
from typing import TYPE_CHECKING

from pulse.core.policies import Start
from pulse.serving import gunicorn, uwsgi, waitress
from pulse.serving.base import Reports
from pulse.serving.lifecycle import REGISTRY, ServiceLifecycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.serving.base import Identity, Server, Service

DETECTORS: tuple[Callable[[], Server[ServiceLifecycle] | None], ...] = (
    gunicorn.detect,
    uwsgi.detect,
    waitress.detect,
)


def warn(text: str) -> None:
    """Show a notice as a warning: the default of `install`."""
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def _ignore(_: str) -> None:
    """Report nothing."""


def install(
    service: Service,
    *,
    start: Start = Start.AUTO,
    identity: Identity | None = None,
    notice: Callable[[str], None] = warn,
    failure: Callable[[str], None] | None = None,
    disabled: Callable[[str], None] | None = None,
) -> ServiceLifecycle:
    """Return the lifecycle that starts and shuts down *service* in each process that serves.

    The caller must keep the lifecycle for as long as the service is wanted: nothing else does. If
    it is dropped after the start, the service claims nothing more and ends within its drain; an
    eager service continues until another one of its identity starts. Nothing is opened or started
    in a process that does not serve.

    Args:
        service: what is started and shut down.
        start: `auto` as described; `eager` starts at once, in this process, whatever it is; with
            `off` only the hooks of `pulse.gunicorn` start it.
        identity: what the service has in common with others that must not run beside it.
        notice: called with a sentence if the detection of the server failed.
        failure: called with the reason if a late start failed; by default the same as *notice*.
        disabled: called with the reason at the first request if the configuration forbids a start.

    """
    lifecycle = ServiceLifecycle(
        service,
        start=start,
        identity=identity,
        reports=Reports(notice, failure or notice, disabled or _ignore),
        detect=detect_server,
        detect_forked=detect_forked_worker,
    )
    service.set_accepting(_weak_accepts_work(lifecycle))
    REGISTRY.add(lifecycle)
    lifecycle.attach_to_server()
    if start is Start.EAGER:
        lifecycle.start()
    return lifecycle


def detect_server() -> Server[ServiceLifecycle] | None:
    """Return the server that the call stack shows, or None."""
    return next((server for detect in DETECTORS if (server := detect()) is not None), None)


def detect_forked_worker() -> Server[ServiceLifecycle] | None:
    """Return the worker that gunicorn has just made by a fork, or None."""
    return gunicorn.detect_forked()


def _weak_accepts_work(lifecycle: ServiceLifecycle) -> Callable[[], bool]:
    """Return the function to call before each claim; it does not keep *lifecycle* alive."""
    known = weakref.ref(lifecycle)

    def accepts_work() -> bool:
        alive = known()
        if alive is not None and alive.gc_check_due and alive.may_be_garbage():
            del alive  # a reference from here would keep it from being collected
            gc.collect()
            alive = known()
        if alive is not None:
            return alive.accepts_work()
        if REGISTRY.accepts_detached_work(known):
            return True
        REGISTRY.shutdown_dropped_in_thread()
        return False

    return accepts_work
