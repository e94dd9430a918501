"""A WSGI application whose middleware tells a file when its process begins and ends.

It stands in for pulse in the tests of `pulse.serving`: the arrangement is the real one, what is
served is only a witness. Environment variables shape it:

    PROBE_FILE   where each event is appended as a line `event pid ppid rest`
    PROBE_START  the start word, default auto
    PROBE_NAP    how many seconds of work the drain has to wait for, default 0
    PROBE_COUNT  how many middlewares are built around the application, default 1
    PROBE_ASK    if set, a thread asks every 0.1 s whether to claim, as a scheduler's loop does
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
    """Append one line, in one write, so that processes do not mix theirs."""
    line = " ".join(map(str, (event, os.getpid(), os.getppid(), *rest)))
    with Path(os.environ["PROBE_FILE"]).open("a") as out:
        out.write(f"{line}\n")


class Witness:
    """Writes down what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.accepts_work: Callable[[], bool] = lambda: True

    def set_accepting(self, accepts_work: Callable[[], bool]) -> None:
        """Keep the question."""
        self.accepts_work = accepts_work

    def start(self) -> Witness:
        """Write it down, and begin to ask if the probe is to."""
        write_event("begin", self.name, threading.current_thread() is threading.main_thread())
        if os.environ.get("PROBE_ASK"):
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def stop_claiming(self) -> None:
        """Write it down."""
        write_event("quiet", self.name)

    def shutdown(self, limit_s: float | None) -> None:
        """Work for the nap, but no longer than the limit less a second."""
        write_event("end", self.name, limit_s)
        nap = float(os.environ.get("PROBE_NAP", "0"))
        time.sleep(nap if limit_s is None else max(0.0, min(nap, limit_s - 1)))
        write_event("ended", self.name)

    def forked(self) -> None:
        """Leave no trace: it comes in each forked child."""

    def _watch(self) -> None:
        before = None
        while True:
            now = self.accepts_work()
            if now != before:
                write_event("serving", self.name, now)
            before = now
            time.sleep(0.1)


class Probe:
    """Middleware that does with its arrangement what pulse's does."""

    def __init__(self, app: WSGIApplication, name: str = "probe") -> None:
        self.app = app
        start = Start(os.environ.get("PROBE_START", "auto"))
        self.lifecycle = install(Witness(name), start=start)
        write_event("built", name)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Show the first request to the arrangement, and pass all on."""
        if self.lifecycle.pending:
            self.lifecycle.first_request(environ)
        return self.app(environ, start_response)


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the process id, after `?nap=` seconds, or once the file of `?until=` is there."""
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
