"""The Celery application of `pulse worker`, from the settings of the application that it serves."""

from __future__ import annotations

from functools import cache

from celery import Celery

from pulse.celery.carrier import find_application
from pulse.celery.tasks import install_target
from pulse.errors import ConfigError
from pulse.worker.settings import (
    import_from_here,
    passed_on,
    read_worker_settings,
    target_from_environment,
)

PROCESS_UP_S = 60
"""How many seconds a child may take to load the application. Celery waits for 4 s by default; a
child that takes longer is never used, and none replaces it."""


@cache
def worker_app() -> Celery:
    """Return the Celery application for the target that the environment names.

    Raises:
        ConfigError: the environment names none, or the target cannot be served.

    """
    import_from_here()
    target = target_from_environment()
    settings = passed_on() or read_worker_settings(target)
    if not settings.broker:
        raise ConfigError(["pulse.config.broker: expected a broker, got nothing"])
    if "://" not in settings.broker:
        return install_target(find_application(settings.broker), target)
    app = Celery("pulse", broker=settings.broker, set_as_current=True)
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        task_default_queue=settings.queues[0],
        task_ignore_result=True,
        task_serializer="json",
        # With it a thread or greenlet of the pool waits for an answer of RabbitMQ after the broker
        # was lost, on the connection that the main thread reads: the worker takes no more messages.
        worker_enable_prefetch_count_reduction=False,
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=PROCESS_UP_S,
    )
    return install_target(app, target)
