"""The app of a chaos run: it writes down what it is asked, and dies on command.

Settings come from the environment: EVIDENCE is the file that all processes append to, ARMS the
folder whose files are commands, SETTINGS the pulse settings as JSON. A command is obeyed by the
process that manages to remove its file.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from pulse import events
from pulse.middleware import PulseMiddleware
from tests.chaos.evidence_file import note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

    from pulse.core.run import Claim

ARMS = Path(os.environ["ARMS"])
SETTINGS: dict[str, str] = json.loads(os.environ["SETTINGS"])
POSTS = SETTINGS["pulse.config.mode"] == "celery"
SETTLED_S = 0.3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def strike(point: str, number: signal.Signals, **more: object) -> None:
    """Kill or stop this process if a command for this point exists."""
    try:
        (ARMS / point).unlink()
    except FileNotFoundError:
        return
    note("victim", point=point, **more)
    os.kill(os.getpid(), number)
    time.sleep(SETTLED_S)  # a thread that stops its process may go on for a moment


class Body:
    """A response body whose `close` comes after its end, and before pulse records the result."""

    def __init__(self, text: bytes, *, scheduled: bool) -> None:
        self._text = text
        self._scheduled = scheduled

    def __iter__(self) -> Iterator[bytes]:
        yield self._text

    def close(self) -> None:
        """Strike when a run has finished and is not recorded."""
        if self._scheduled:
            strike("kill-before-finish", signal.SIGKILL)


def view(environ: WSGIEnvironment, start_response: StartResponse) -> Body:
    """Answer pid; on scheduled paths leave evidence, on `/block` hold the whole process."""
    query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
    scheduled = environ["PATH_INFO"].startswith("/tick/")
    status = perform(environ, query) if scheduled else 200
    if environ["PATH_INFO"] == "/block":
        block(float(query["s"]))
    text = b"%d\n" % os.getpid()
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
    start_response("200 OK" if status == 200 else "503 Service Unavailable", headers)
    return Body(text, scheduled=scheduled)


def perform(environ: WSGIEnvironment, query: dict[str, str]) -> int:
    """Execute a scheduled view: start, nap, fail as often as configured, end."""
    moment = datetime.fromisoformat(environ["HTTP_X_PULSE_FIRE_TIME"])
    fire_time = (moment - _EPOCH) // timedelta(microseconds=1)
    attempt = int(environ["HTTP_X_PULSE_ATTEMPT"])
    told = {
        "task": environ["HTTP_X_PULSE_TASK"],
        "fire_time": fire_time,
        "run": environ["HTTP_X_PULSE_RUN_ID"],
        "attempt": attempt,
    }
    note("begin", **told)
    strike("kill-mid-request", signal.SIGKILL, **told)
    time.sleep(float(query.get("nap", "0")))
    fails = fire_time // 1_000_000 // 4 % 4 if "flaky" in query else 0
    status = 503 if attempt <= fails else 200
    note("end", status=status, **told)
    return status


def block(seconds: float) -> None:
    """Block this process, including the hub of a gevent worker."""
    sleep = time.sleep
    if "gevent.monkey" in sys.modules:
        from gevent.monkey import get_original

        sleep = get_original("time", "sleep")
    note("block")
    sleep(seconds)
    note("unblock")


def claimed(event: events.RunClaimed) -> None:
    """Strike between a claim and its dispatch."""
    claim: Claim = event.claim
    told = {
        "task": claim.run.task,
        "fire_time": claim.run.fire_time,
        "run": claim.run.id,
        "attempt": claim.run.attempt,
    }
    if POSTS:
        note("claim", **told)
    strike("kill-after-claim", signal.SIGKILL, **told)
    strike("stop-after-claim", signal.SIGSTOP, **told)


application = PulseMiddleware(view, config=SETTINGS)
application.bus.subscribe(events.SchedulerStarted, lambda _: note("start"))
application.bus.subscribe(events.SchedulerStopped, lambda _: note("stop"))
application.bus.subscribe(events.RunClaimed, claimed)
