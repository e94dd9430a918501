"""A process in which pulse runs, and which forks meanwhile; it prints its results.

    python -m tests.support.forking_host <patched|plain> <seconds>

The last line of its output is JSON: the runs and the members in the store. The notes of
`forking_site` record what each process does, and FORKS_LOG what is logged.
"""

from __future__ import annotations

import sys

if sys.argv[1] == "patched":
    from gevent import monkey

    monkey.patch_all()

import json
import logging
import os
import time

from pulse import events
from tests.support.forking_site import WAYS, application, note

KINDS = (events.RunEnded, events.SchedulerStopped, events.SchedulerError, events.StoreUnavailable)


def watch_bus() -> None:
    """Record which process emits which event."""
    for kind in KINDS:
        application.bus.subscribe(kind, lambda event: note("event", type(event).__name__))


def serve(seconds: float) -> None:
    """Run pulse for *seconds*; fork once outside of runs, and let the runs fork."""
    host = os.getpid()
    note("host")
    watch_bus()
    application._lifecycle.start()
    time.sleep(1)
    WAYS["fork"]()
    time.sleep(seconds)
    if os.getpid() != host:  # a copy of this greenlet, in a forked child
        os._exit(0)
    scheduler = application.scheduler
    rows = [(run.task, run.fire_time, str(run.outcome)) for run in scheduler.runs(limit=1000)]
    members = [member.pid for member in scheduler.members()]
    sys.stdout.write(json.dumps({"host": host, "runs": rows, "members": members}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(
        filename=os.environ["FORKS_LOG"],
        level=logging.INFO,
        format="%(process)d %(levelname)s %(message)s",
    )
    serve(float(sys.argv[2]))
