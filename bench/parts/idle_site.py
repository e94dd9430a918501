"""The application of `bench/idle_fleet.py`: hourly tasks under gunicorn, or in a process alone.

    IDLE_SITE='{"store": "...", "scope": "fleet", "tasks": 10}' gunicorn ... idle_site:application
    IDLE_SITE=... python idle_site.py

Without a store it is the bare application, for a gunicorn without pulse. It uses only names that
every release has.
"""

from __future__ import annotations

import json
import os
import time


def bare(_environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


def build(*, store: str, scope: str = "fleet", tasks: int = 10, mode: str = "gevent", **more):
    from pulse import PulseMiddleware, Task

    # Fire times are half an hour away, whenever the benchmark begins.
    minute = (time.gmtime().tm_min + 30) % 60
    declared = {
        f"task-{number}": Task(action=f"/t/{number}", cron=f"{minute} * * * *", scope=scope)
        for number in range(tasks)
    }
    return PulseMiddleware(bare, store=store, name="bench", mode=mode, tasks=declared, **more)


SETTINGS = json.loads(os.environ.get("IDLE_SITE", "{}"))
application = build(**SETTINGS) if "store" in SETTINGS else bare

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()
    application = build(**SETTINGS, start="eager")
    while True:
        time.sleep(3_600)
