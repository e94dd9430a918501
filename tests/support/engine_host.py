"""A process with a process engine: it executes the paths of its arguments, one line each.

    python -m tests.support.engine_host <patched|plain|forked> <module:name> /path ...

Each result is a line of JSON on standard output. The process stops the engine and exits when its
standard input ends. `patched` is a process patched by gevent, whose last line states how long its
hub was blocked at most. `forked` leaves a fork of itself, with all its files open, after the first
path.
"""

from __future__ import annotations

import sys

if sys.argv[1] == "patched":
    from gevent import monkey

    monkey.patch_all()

import json
import os
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from pulse.clock import SystemClock
from pulse.engine.base import EngineCallbacks
from pulse.engine.child_protocol import ChildSetup, MiddlewareFingerprint
from pulse.engine.processes import ProcessEngine
from tests.support.claims import make_claim

if TYPE_CHECKING:
    from pulse.core.run import CompletedRun, Result


def _never(_: object) -> Result:
    raise AssertionError("the parent performs nothing")


def tell(*words: object) -> None:
    """Write a line of JSON."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


class Ticker:
    """Measures how long nothing else could run."""

    def __init__(self) -> None:
        self.longest = 0.0
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while True:
            before = time.monotonic()
            time.sleep(0.01)
            self.longest = max(self.longest, time.monotonic() - before)


def leave_a_fork() -> None:
    """Fork a process that holds all files that this process has open."""
    pid = os.fork()
    if not pid:
        time.sleep(20)
        os._exit(0)
    tell("fork", pid)


def host(kind: str, application: str, paths: list[str]) -> None:
    """Execute the paths one after the other, and write each result."""
    ticker = Ticker()
    completed: SimpleQueue[CompletedRun] = SimpleQueue()
    engine = ProcessEngine(
        SystemClock(),
        child=ChildSetup(
            application=application, fingerprint=MiddlewareFingerprint(digest="inner")
        ),
    )
    engine.start(EngineCallbacks(_never, completed.put, lambda _, __: None), concurrency=2)
    for path in paths:
        engine.submit(make_claim(action=path, timeout=1.5 if kind == "patched" else 60))
        result = completed.get().result
        tell(result.outcome.value, result.message)
        if kind == "forked":
            leave_a_fork()
    sys.stdin.read()
    engine.stop(0)
    tell("longest", ticker.longest)


if __name__ == "__main__":
    host(sys.argv[1], sys.argv[2], sys.argv[3:])
