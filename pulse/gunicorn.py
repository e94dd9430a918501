"""Optional hooks for `gunicorn.conf.py`.

    from pulse.gunicorn import post_worker_init, worker_abort, worker_exit, worker_int

They do what pulse does automatically in every gunicorn worker, so they are needed with
`start = off` only. If both are used, each worker still starts once and shuts down once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pulse.serving.gunicorn import GunicornWorker
from pulse.serving.lifecycle import REGISTRY
from pulse.serving.process_registry import shutdown_in_order

if TYPE_CHECKING:
    from pulse.serving.gunicorn import Worker

__all__ = ["post_worker_init", "worker_abort", "worker_exit", "worker_int"]


def post_worker_init(worker: Worker) -> None:
    """Start in this worker, whatever `start` is set to."""
    for lifecycle in REGISTRY.lifecycles():
        if not lifecycle.is_started():
            lifecycle.set_server(GunicornWorker(worker))
            lifecycle.start()


def worker_int(worker: Worker) -> None:  # noqa: ARG001 - gunicorn passes it
    """Stop claiming: the worker has to stop at once."""
    for lifecycle in REGISTRY.lifecycles():
        lifecycle.stop_claiming()


def worker_abort(worker: Worker) -> None:  # noqa: ARG001 - gunicorn passes it
    """Stop claiming: the master considers the worker dead."""
    for lifecycle in REGISTRY.lifecycles():
        lifecycle.stop_claiming()


def worker_exit(server: object, worker: Worker) -> None:  # noqa: ARG001 - gunicorn passes it
    """Drain running tasks for as long as gunicorn lets this worker live, then interrupt them."""
    # The master calls this hook in its own process for a worker that vanished.
    if worker.pid == os.getpid():
        shutdown_in_order(REGISTRY.lifecycles())
