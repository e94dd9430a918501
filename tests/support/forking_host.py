"""A process that takes part, and forks while it does; it says what became of everything.

    python -m tests.support.forking_host <patched|plain> <seconds>

The last line of its output is JSON: what the store has on record, and who takes part. What each
process does is in the notes of `forking_site`, what is logged and emitted in FORKS_LOG.
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
    """Note who emits what."""
    for kind in KINDS:
        application.bus.subscribe(kind, lambda event: note("event", type(event).__name__))


def take_part(seconds: float) -> None:
    """Serve for so long: fork once beside the runs, and let the runs fork."""
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
    take_part(float(sys.argv[2]))
