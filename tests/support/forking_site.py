"""A site that records which process performs a run, and whose scheduled view forks.

The environment says how: FORKS_MODE, FORKS_STORE, FORKS_WAY (a key of `WAYS`) and FORKS_NOTES, the
file to which each process appends lines of `<word> <process id> <parent's process id> ...`.
"""

from __future__ import annotations

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

HOST = os.getpid()
"""The only process that forks; a child that wrongly dispatched would fork for ever."""

CHILD_LIVES_S = 1.8
"""How long a forked child waits: a running loop would poll the store at least twice."""


def note(*words: object) -> None:
    """Append one line, in one write."""
    line = " ".join(map(str, (words[0], os.getpid(), os.getppid(), *words[1:])))
    with Path(os.environ["FORKS_NOTES"]).open("a") as notes:
        notes.write(f"{line}\n")


def wait_in_child() -> None:
    """Do what a forked child does: call the handle, and wait, so that the hub runs."""
    try:
        application.scheduler.tasks()
    except NotServingError as error:
        note("refused", "forked child" in str(error))
    except BaseException as error:
        note("raised", repr(error))
        raise
    time.sleep(CHILD_LIVES_S)
    note("waited")


def fork_plainly() -> None:
    """Fork a child that waits and exits."""
    pid = os.fork()
    if not pid:
        wait_in_child()
        os._exit(0)
    note("forked", pid)


def fork_and_return() -> None:
    """Fork a child that waits, and then returns from the view as its parent does."""
    pid = os.fork()
    if pid:
        note("forked", pid)
    else:
        wait_in_child()


def fork_and_exit() -> None:
    """Fork a child that waits, and then exits by an exception, as scripts do."""
    pid = os.fork()
    if not pid:
        wait_in_child()
        raise SystemExit(0)
    note("forked", pid)


def fork_by_multiprocessing() -> None:
    """Start a process of the standard library, and wait for its end."""
    child = multiprocessing.get_context("fork").Process(target=wait_in_child)
    child.start()
    note("forked", child.pid)
    child.join()


WAYS: dict[str, Callable[[], None]] = {
    "fork": fork_plainly,
    "return": fork_and_return,
    "exit": fork_and_exit,
    "multiprocessing": fork_by_multiprocessing,
}


def site(environ: WSGIEnvironment, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Record a run; the view of `/fork` forks."""
    run = environ.get("pulse.run")
    if run is not None:
        note("run", run.task, run.fire_time)
        if environ["PATH_INFO"] == "/fork" and os.getpid() == HOST:
            WAYS[os.environ["FORKS_WAY"]]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


application = PulseMiddleware(
    site,
    mode=os.environ["FORKS_MODE"],
    store=os.environ["FORKS_STORE"],
    application="tests.support.forking_site:application",
    name="forks",
    start="off",
    concurrency=6,
    tasks={
        name: Task(action=f"/{name}", interval="500ms", misfire="all", overlap="allow")
        for name in "abc"
    }
    | {
        "fork": Task(action="/fork", interval=1, misfire="all", overlap="allow"),
    },
)
