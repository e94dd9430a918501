"""The Celery application of a site that has one, with a task of its own and that of pulse."""

from __future__ import annotations

import logging
from pathlib import Path

from celery import Celery

from pulse.celery import install

app = Celery("shop", broker="amqp://127.0.0.1//")
app.conf.task_ignore_result = True

# The workers of this application execute the runs of the site; the file is not read before that.
install(app, f"config:{Path(__file__).with_name('existing.ini')}")


@app.task
def send_letter(customer: str) -> None:
    """Send a letter to a customer."""
    logging.getLogger("shop").warning("a letter to %s", customer)
