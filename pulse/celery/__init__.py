"""The worker of `mode = celery`: a Celery application that executes posted runs.

`pulse worker FILE.ini` starts it; `install` adds the task to a Celery application of the site. This
package imports Celery, so nothing else of pulse imports it but the carrier that the mode names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.celery.tasks import install

if TYPE_CHECKING:
    from celery import Celery

    app: Celery
    """The Celery application that the environment describes, for `celery -A pulse.celery`."""

__all__ = ["app", "install"]


def __getattr__(name: str) -> Celery:
    if name == "app":
        from pulse.celery.application import worker_app

        return worker_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
