"""A site whose scheduled views run in child processes, by import string and by paste.

Each run appends `run <process> <parent> <path>` to the file that RUNS names; `/slow` takes long.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.middleware import PulseMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CONFIG = {
    "pulse.config.mode": "processing",
    "pulse.config.store": "memory:",
    "pulse.task.quick.action": "/quick",
    "pulse.task.quick.interval": "0.5",
    "pulse.task.slow.action": "/slow",
    "pulse.task.slow.interval": "1",
}


def site(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer the process id; note a run, and take long over the slow one."""
    if "pulse.run" in environ:
        sys.stdout.write("the app prints what it likes\n" * 10)
        _note(f"run {os.getpid()} {os.getppid()} {environ['PATH_INFO']}\n")
        if environ["PATH_INFO"] == "/slow":
            time.sleep(60)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def make_site(_: dict[str, str], **__: str) -> object:
    """Return the site; a `paste.app_factory`."""
    return site


def _note(line: str) -> None:
    with Path(os.environ["RUNS"]).open("a") as runs:
        runs.write(line)


def outermost(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Pass requests on, but never a run: those begin below pulse."""
    assert "pulse.run" not in environ
    return application(environ, start_response)


application = PulseMiddleware(
    site, config=CONFIG | {"pulse.config.application": "tests.support.processing_site:outermost"}
)
