"""A site whose children accept connections by accident: `/fork` makes one, which only waits.

`python -m tests.support.accepting_site <port>` serves the site by gevent's own server. Each answer
is the process id, and whether pulse takes part there. Runs are noted in the file that RUNS names;
`/long` takes a second and then forks, for a server that is told to stop meanwhile.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import multiprocessing
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pulse import PulseMiddleware, Task
from pulse.errors import NotServingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import WSGIEnvironment


def note(word: str, *rest: object) -> None:
    """Append a line, in one write."""
    line = " ".join(map(str, (word, os.getpid(), *rest)))
    with Path(os.environ["RUNS"]).open("a") as runs:
        runs.write(f"{line}\n")


def wait(seconds: float) -> None:
    """Do what a child does."""
    note("began")
    time.sleep(seconds)
    note("ended")


def fork(seconds: float) -> multiprocessing.Process:
    """Start a child that waits."""
    child = multiprocessing.get_context("fork").Process(target=wait, args=(seconds,))
    child.start()
    return child


def perform(path: str) -> None:
    """Do what a run does."""
    note("run", path)
    if path == "/long":
        time.sleep(1)
        child = fork(2)
        child.join()
        note("joined", child.exitcode)


def answer(environ: WSGIEnvironment) -> str:
    """Return the process id, and whether the handle can be used."""
    if environ["PATH_INFO"] == "/fork":
        fork(8)
    try:
        environ["pulse.scheduler"].tasks()
    except NotServingError:
        return f"{os.getpid()} refused"
    return f"{os.getpid()} here"


def site(environ: WSGIEnvironment, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Perform a run, or answer a request."""
    text = perform(environ["PATH_INFO"]) if "pulse.run" in environ else answer(environ)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])
    return [str(text).encode()]


tasks = {"work": Task(action="/work", interval="500ms")}
if os.environ.get("LONG"):
    tasks["long"] = Task(action="/long", interval="1h", run_at_start=True)
application = PulseMiddleware(
    site, mode="gevent", store="memory:", start=os.environ.get("START", "auto"), tasks=tasks
)

if __name__ == "__main__":
    from gevent.pywsgi import WSGIServer

    WSGIServer(("127.0.0.1", int(sys.argv[1])), application, log=None).serve_forever()
