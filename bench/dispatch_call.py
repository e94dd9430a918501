"""Microseconds of one call into a trivial app, beside the least that a WSGI server can do.

    python bench/dispatch_call.py

The bare row copies a ready environ, calls the app and drains its body: no headers of the run, no
PEP 3333 checks, no close(). Each figure is the best of several rounds of process CPU time.
"""

from __future__ import annotations

import io
import sys
import time
from typing import TYPE_CHECKING

from pulse.clock import SystemClock
from pulse.core.run import Claim, Run
from pulse.core.task import Task, build_definition
from pulse.wsgi.dispatcher import Dispatcher
from pulse.wsgi.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import StartResponse, WSGIEnvironment

CALLS = 20_000
ROUNDS = 9
FIRE_TIME = 1_795_417_200_250_000


def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


def claim_of(**keywords: object) -> Claim:
    definition = build_definition(
        "cleanup", Task(action="/sessions/cleanup", interval=300, **keywords)
    )
    run = Run(
        id="0123456789abcdef" * 2, task="cleanup", fire_time=FIRE_TIME, scheduled_for=FIRE_TIME
    )
    return Claim(run, definition, 2**62)


def bare_call() -> Callable[[Claim], bytes]:
    kept = {}

    def keep(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        kept.update(environ)
        return app(environ, start_response)

    Dispatcher(keep, multithread=True).call(claim_of())

    def call(_: Claim) -> bytes:
        environ = kept.copy()
        environ["wsgi.input"] = io.BytesIO(b"")
        environ["wsgi.errors"] = sys.stderr
        return b"".join(app(environ, lambda _status, _headers, _exc_info=None: None))

    return call


def microseconds(call: Callable[[Claim], object], claim: Claim) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            call(claim)
        best = min(best, time.process_time() - began)
    return best / CALLS * 1e6


def main() -> None:
    dispatcher = Dispatcher(app, multithread=True)
    runner = Runner(dispatcher, SystemClock())
    plain = claim_of()
    posted = claim_of(method="POST", body="{}", headers={"Content-Type": "application/json"})
    rows = (
        ("bare: dict copy and app", bare_call(), plain),
        ("Dispatcher.call, GET", dispatcher.call, plain),
        ("Dispatcher.call, POST with header", dispatcher.call, posted),
        ("Runner.perform, GET", runner.perform, plain),
    )
    for name, call, claim in rows:
        print(f"{name:<36}{microseconds(call, claim):6.2f} us")


if __name__ == "__main__":
    main()
