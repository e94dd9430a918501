"""Hooks for those who prefer to see them in their `gunicorn.conf.py`.

    from pulse.gunicorn import post_worker_init, worker_abort, worker_exit, worker_int

They do what pulse does by itself in every gunicorn worker, so they are needed with `start = off`
only; with both, each worker begins once and ends once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pulse.serving.gunicorn import GunicornWorker
from pulse.serving.process_registry import REGISTRY, end_all

if TYPE_CHECKING:
    from pulse.serving.gunicorn import Worker

__all__ = ["post_worker_init", "worker_abort", "worker_exit", "worker_int"]


def post_worker_init(worker: Worker) -> None:
    """Begin in this worker, whatever `start` says."""
    for member in REGISTRY.members():
        if not member.is_begun():
            member.belong(GunicornWorker(worker))
            member.begin()


def worker_int(worker: Worker) -> None:  # noqa: ARG001 - gunicorn passes it
    """Claim nothing more: the worker was told to stop at once."""
    for member in REGISTRY.members():
        member.quiet()


def worker_abort(worker: Worker) -> None:  # noqa: ARG001 - gunicorn passes it
    """Claim nothing more: the master takes the worker for dead."""
    for member in REGISTRY.members():
        member.quiet()


def worker_exit(server: object, worker: Worker) -> None:  # noqa: ARG001 - gunicorn passes it
    """Let running tasks end for as long as gunicorn gives this worker, then interrupt them."""
    # The master calls this hook itself, for a worker that vanished.
    if worker.pid == os.getpid():
        end_all(REGISTRY.members())
