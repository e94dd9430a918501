"""A site whose API and probes are mounted; a file says what its tasks do."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pulse import PulseMiddleware, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import WSGIEnvironment


def site(environ: WSGIEnvironment, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer; a run of `work` fails while the file `fail` exists, one of `slow` takes long."""
    folder = Path(os.environ["STEERED_FOLDER"])
    if environ["PATH_INFO"] == "/work" and (folder / "fail").exists():
        raise RuntimeError("told to fail")
    if environ["PATH_INFO"] == "/slow":
        time.sleep(120)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def make() -> PulseMiddleware:
    """Return the site in the mode and with the store that the environment names."""
    slow = {"slow": Task(action="/slow", interval="1h", run_at_start=True)}
    return PulseMiddleware(
        site,
        mode=os.environ.get("STEERED_MODE", "threading"),
        store=os.environ["STEERED_STORE"],
        lease="1s",
        drain="1s",
        concurrency=1 if "STEERED_SLOW" in os.environ else None,
        api="/_pulse/api",
        health="/_pulse",
        access=[
            "read token:${STEERED_READ}",
            "act token:${STEERED_ACT}",
            "act basic:anna:${STEERED_HASH}",
        ],
        tasks={
            "work": Task(action="/work", interval=1),
            **(slow if "STEERED_SLOW" in os.environ else {}),
        },
    )
