"""A Celery application of a site, whose workers execute posted runs; LATE_ACKS makes acks late."""

import os

from celery import Celery

from pulse.celery import install
from pulse.celery.carrier import TASK

app = Celery("shop", broker=os.environ["SHOP_BROKER"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options=(
        {"visibility_timeout": 3, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
        if os.environ["SHOP_BROKER"].startswith("redis")
        else {}
    ),
    task_default_queue="pulse",
    worker_prefetch_multiplier=1,
    worker_proc_alive_timeout=60,
)
install(app, "tests.support.celery_app:application")
if os.environ.get("LATE_ACKS"):
    app.tasks[TASK].acks_late = True
    app.tasks[TASK].reject_on_worker_lost = True


@app.task
def add(one: int, other: int) -> int:
    """Return a sum: a task of the site itself."""
    return one + other
