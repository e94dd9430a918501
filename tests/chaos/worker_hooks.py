"""A module that the Celery workers of a chaos run include: they write down when they take runs."""

from __future__ import annotations

import os

from celery import signals

from tests.chaos.evidence_file import note

WORKER = os.environ["WORKER"]
IS_PREFORK = os.environ["POOL"] == "prefork"


@signals.worker_process_init.connect(weak=False)
def ready(**_: object) -> None:
    """A child of the prefork pool has loaded the application: pulse is connected before this."""
    note("ready", worker=WORKER, slots=1)


@signals.worker_ready.connect(weak=False)
def consume(**_: object) -> None:
    """The worker takes messages; without child processes its main process executes the runs."""
    if not IS_PREFORK:
        note("ready", worker=WORKER, slots=int(os.environ["SLOTS"]))
    note("consume", worker=WORKER)


@signals.worker_process_shutdown.connect(weak=False)
@signals.worker_shutdown.connect(weak=False)
def stop(**_: object) -> None:
    """This process takes part no more."""
    note("stop")
