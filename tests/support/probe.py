"""A WSGI application whose middleware records in a file when it starts and shuts down.

It replaces pulse in the tests of `pulse.serving`: the lifecycle is the real one, the service only
records its calls. Environment variables configure it:

    PROBE_FILE   where each event is appended as a line `event pid ppid rest`
    PROBE_START  the setting `start`, default auto
    PROBE_NAP    the seconds of work for which the drain has to wait, default 0
    PROBE_COUNT  how many middlewares are built around the application, default 1
    PROBE_ASK    if set, a thread calls `accepts_work` every 0.1 s, as a scheduler's loop does
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.core.policies import Start
from pulse.serving import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def write_event(event: str, *rest: object) -> None:
    """Append one line, in one write, so that lines of several processes do not mix."""
    line = " ".join(map(str, (event, os.getpid(), os.getppid(), *rest)))
    with Path(os.environ["PROBE_FILE"]).open("a") as out:
        out.write(f"{line}\n")


class Witness:
    """A service that records its calls in the file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.accepts_work: Callable[[], bool] = lambda: True

    def set_accepting(self, accepts_work: Callable[[], bool]) -> None:
        """Keep the function."""
        self.accepts_work = accepts_work

    def start(self) -> Witness:
        """Record the call, and start the thread of PROBE_ASK."""
        write_event("start", self.name, threading.current_thread() is threading.main_thread())
        if os.environ.get("PROBE_ASK"):
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def stop_claiming(self) -> None:
        """Record the call."""
        write_event("stop_claiming", self.name)

    def shutdown(self, limit_s: float | None) -> None:
        """Record the call, and work for PROBE_NAP, at most for the limit less a second."""
        write_event("shutdown", self.name, limit_s)
        nap = float(os.environ.get("PROBE_NAP", "0"))
        time.sleep(nap if limit_s is None else max(0.0, min(nap, limit_s - 1)))
        write_event("shut_down", self.name)

    def forked(self) -> None:
        """Do nothing: it is called in each forked child."""

    def _watch(self) -> None:
        before = None
        while True:
            now = self.accepts_work()
            if now != before:
                write_event("accepts_work", self.name, now)
            before = now
            time.sleep(0.1)


class Probe:
    """Middleware that uses its lifecycle as pulse's does."""

    def __init__(self, app: WSGIApplication, name: str = "probe") -> None:
        self.app = app
        start = Start(os.environ.get("PROBE_START", "auto"))
        self.lifecycle = install(Witness(name), start=start)
        write_event("built", name)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass the first request to the lifecycle, and all requests to the app."""
        if self.lifecycle.pending:
            self.lifecycle.first_request(environ)
        return self.app(environ, start_response)


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the process id, after `?nap=` seconds, or once the file of `?until=` exists."""
    kind, _, value = environ.get("QUERY_STRING", "").partition("=")
    if kind:
        write_event("requested", "app")
    if kind == "nap":
        time.sleep(float(value))
    while kind == "until" and not Path(value).exists():
        time.sleep(0.02)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def wrap(app: WSGIApplication) -> WSGIApplication:
    """Return *app* inside as many probes as are wanted."""
    for number in range(int(os.environ.get("PROBE_COUNT", "1"))):
        app = Probe(app, f"probe{number}")
    return app


def paste_app(global_conf: dict[str, str], **local_conf: str) -> WSGIApplication:
    """Return the application, as a paste app factory."""
    del global_conf, local_conf
    return wrap(hello)
