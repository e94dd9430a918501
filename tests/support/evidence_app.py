"""A WSGI app whose views append what they saw to a file; the evidence that cluster tests judge.

Settings come from the environment: EVIDENCE is the file, NAP how many seconds the view below
`/tick/nap` takes, and SETTINGS the pulse settings as JSON. With STOPS the process stops itself, by
SIGSTOP, when it has claimed the first run of one of the tasks of these names: after the claim, and
before the lease is checked.
"""

import json
import os
import signal
import time
from collections.abc import Callable

from pulse import events
from pulse.core.run import Run
from pulse.core.task import Task
from pulse.middleware import PulseMiddleware

EVIDENCE = os.environ["EVIDENCE"]
NAP_S = float(os.environ.get("NAP", "0"))
STOPS = os.environ.get("STOPS", "").split()
SETTLED_S = 0.3


def note(what: str, environ: dict) -> None:
    """Append one line in a single write, which O_APPEND keeps whole."""
    record = {
        "what": what,
        "at": time.time(),
        "pid": os.getpid(),
        "task": environ.get("HTTP_X_PULSE_TASK", ""),
        "fire_time": environ.get("HTTP_X_PULSE_FIRE_TIME", ""),
        "run": environ.get("HTTP_X_PULSE_RUN_ID", ""),
        "trigger": environ.get("HTTP_X_PULSE_TRIGGER", ""),
    }
    file = os.open(EVIDENCE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, (json.dumps(record) + "\n").encode())
    finally:
        os.close(file)


def view(environ: dict, start_response: Callable) -> list[bytes]:
    """Return the pid; log scheduled paths, and add or remove a task at run time."""
    if environ["PATH_INFO"].startswith("/tick"):
        note("begin", environ)
        if environ["PATH_INFO"].startswith("/tick/nap"):
            time.sleep(NAP_S)
        note("end", environ)
    elif environ["PATH_INFO"] == "/add":
        environ["pulse.scheduler"].add("added", Task(action="added", interval=1))
    elif environ["PATH_INFO"] == "/remove":
        environ["pulse.scheduler"].remove("added")
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def note_run(what: str, run: Run) -> None:
    """Log what pulse itself reports about a run."""
    note(what, {"HTTP_X_PULSE_TASK": run.task, "HTTP_X_PULSE_RUN_ID": run.id})


class Stop:
    """Stops the process between a claim and its dispatch, once."""

    def __init__(self) -> None:
        self.done = False

    def __call__(self, event: events.RunClaimed) -> None:
        """Record the claim; the loop emits the event while it makes no call to the store."""
        note_run("claimed", event.claim.run)
        if event.claim.run.task in STOPS and not self.done:
            self.done = True
            note_run("stops", event.claim.run)
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(SETTLED_S)  # a thread that stops its process may go on for a moment


application = PulseMiddleware(view, config=json.loads(os.environ["SETTINGS"]))
application.bus.subscribe(events.SchedulerStarted, lambda _: note("start", {}))
application.bus.subscribe(
    events.StoreUnavailable, lambda event: None if event.after_us else note("lost", {})
)
application.bus.subscribe(events.StoreRecovered, lambda _: note("back", {}))
application.bus.subscribe(events.ClaimLost, lambda event: note_run("refused", event.claim.run))
application.bus.subscribe(events.RunAbandoned, lambda event: note_run("abandoned", event.run))
if STOPS:
    application.bus.subscribe(events.RunClaimed, Stop())
