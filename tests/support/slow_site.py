"""A site with a task whose run takes a minute, unless somebody stops it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pulse import PulseMiddleware, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import WSGIEnvironment


def site(environ: WSGIEnvironment, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer with the process id; a run takes a minute."""
    if "pulse.run" in environ:
        time.sleep(60)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def wrapped(*, mode: str, start: str = "auto") -> PulseMiddleware:
    """Return the site as each process of the fleet wraps it, and as a process beside it does."""
    return PulseMiddleware(
        site,
        mode=mode,
        start=start,
        application="tests.support.slow_site:make()" if mode == "processing" else None,
        drain="1s",
        store=f"sqlite:///{os.environ['SLOW_DB']}",
        tasks={"slow": Task(action="/slow", interval="1h", run_at_start=True)},
    )


def make() -> PulseMiddleware:
    """Return the site in the mode that the environment names."""
    return wrapped(mode=os.environ["SLOW_MODE"])
