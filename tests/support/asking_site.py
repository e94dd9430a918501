"""A site whose view asks for another task's run, from the child process that it runs in.

`/ask` writes what it saw to the file that RUNS names; so does `/answer`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pulse import PulseMiddleware, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import WSGIEnvironment


def site(environ: WSGIEnvironment, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer with the process id; a run triggers or answers, and records it."""
    if "pulse.run" in environ:
        word = _ask(environ) if environ["PATH_INFO"] == "/ask" else _answer(environ)
        with Path(os.environ["RUNS"]).open("a") as runs:
            runs.write(f"{word}\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def _ask(environ: WSGIEnvironment) -> str:
    scheduler = environ["pulse.scheduler"]
    run = scheduler.trigger("answer", body=f"asked by {os.getpid()}")
    (member,) = scheduler.members()
    return f"ask {os.getpid()} {member.pid} {run is not None}"


def _answer(environ: WSGIEnvironment) -> str:
    return f"answer {environ['wsgi.input'].read().decode()}"


application = PulseMiddleware(
    site,
    mode="processing",
    application="tests.support.asking_site:application",
    store=f"sqlite:///{os.environ['RUNS']}.db",
    tasks={
        "ask": Task(action="/ask", interval="1h", run_at_start=True),
        "answer": Task(action="/answer", interval="1h", method="POST"),
    },
)
