"""A site that any release of pulse can serve: its view appends each scheduled call to a file.

Settings come from the environment: EVIDENCE is the file, SETTINGS the pulse settings as JSON.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from pulse import PulseMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import WSGIEnvironment


def view(environ: WSGIEnvironment, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer with the release; a scheduled call leaves a line."""
    if environ["PATH_INFO"].startswith("/tick"):
        record = {
            "what": "begin",
            "at": time.time(),
            "pid": os.getpid(),
            "task": environ["HTTP_X_PULSE_TASK"],
            "fire_time": environ["HTTP_X_PULSE_FIRE_TIME"],
            "run": environ["HTTP_X_PULSE_RUN_ID"],
            "trigger": environ["HTTP_X_PULSE_TRIGGER"],
        }
        file = os.open(os.environ["EVIDENCE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, (json.dumps(record) + "\n").encode())
        finally:
            os.close(file)
    body = os.environ["RELEASE"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


application = PulseMiddleware(view, config=json.loads(os.environ["SETTINGS"]))
