"""A WSGI app whose views append what they saw to a file; the evidence that cluster tests judge.

Settings come from the environment: EVIDENCE is the file, NAP how many seconds the view below
`/tick/nap` takes, and SETTINGS the pulse settings as JSON.
"""

import json
import os
import time
from collections.abc import Callable

from pulse import events
from pulse.middleware import PulseMiddleware
from pulse.task import Task

EVIDENCE = os.environ["EVIDENCE"]
NAP_S = float(os.environ.get("NAP", "0"))


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
    """Answer pid; leave evidence of scheduled paths, add and remove a task at run time."""
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


application = PulseMiddleware(view, config=json.loads(os.environ["SETTINGS"]))
application.bus.subscribe(events.SchedulerStarted, lambda _: note("start", {}))
