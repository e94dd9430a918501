"""The configuration of gunicorn in a chaos run: a worker writes down that it will be replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.chaos_app import note

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker


_leaving: set[int] = set()


def post_request(worker: Worker, _request: object, _environ: object, _response: object) -> None:
    """After `max_requests` gunicorn marks a worker as no longer alive; from then on it drains."""
    if not worker.alive and worker.pid not in _leaving:
        _leaving.add(worker.pid)
        note("leave")
