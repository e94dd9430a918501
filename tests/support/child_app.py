"""A WSGI app for child processes: each path behaves as its name says.

What `NOTES` in the environment names is a file to which the app appends `<word> <process id>`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.child.discovery import register
from pulse.engine.child_protocol import MiddlewareFingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Environ = dict[str, object]


def note(word: str, pid: int) -> None:
    """Append a line, in one write."""
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write(f"{word} {pid}\n")


def _pid(_: Environ) -> str:
    return str(os.getpid())


def _say(_: Environ) -> str:
    sys.stdout.write("said by the app\n")
    sys.stdout.flush()
    os.write(1, b"written by the app\n")
    return "said"


def _segv(_: Environ) -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return ""


def _term(_: Environ) -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    return str(os.getpid())


def _unnamed(_: Environ) -> str:
    os.kill(os.getpid(), signal.SIGRTMIN + 3)
    return ""


def _exit(_: Environ) -> str:
    os._exit(7)


def _nap(_: Environ) -> str:
    note("busy", os.getpid())
    try:
        time.sleep(60)
    finally:
        note("cleaned", os.getpid())
    return ""


def _native(_: Environ) -> str:
    """Hold the interpreter's lock: no other thread and no Python signal handler runs."""
    note("busy", os.getpid())
    return str(sum(range(10**11)))


def _stubborn(_: Environ) -> str:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("busy", os.getpid())
    time.sleep(60)
    return ""


def _family(_: Environ) -> str:
    """Leave a child process behind, and be busy."""
    note("offspring", subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid)
    return _nap(_)


def _runaway(_: Environ) -> str:
    """Fork a process that leaves the group but keeps every file open, and die."""
    pid = os.fork()
    if not pid:
        os.setsid()
        time.sleep(5)
        os._exit(0)
    note("offspring", pid)
    os._exit(9)


def _fork(_: Environ) -> str:
    """Fork, and return in both processes."""
    pid = os.fork()
    if pid:
        note("offspring", pid)
    return str(os.getpid())


def _forked_nap(_: Environ) -> str:
    """Fork, and be busy in both processes."""
    _fork(_)
    try:
        time.sleep(60)
    except BaseException:
        note("interrupted", os.getpid())
        raise
    return ""


def _signalled_fork(_: Environ) -> str:
    """Fork, send SIGTERM to the new process at once, and return how it ended."""
    pid = os.fork()
    if not pid:
        time.sleep(60)
        os._exit(7)
    os.kill(pid, signal.SIGTERM)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _look(environ: Environ) -> str:
    plain = {
        key: value for key, value in environ.items() if isinstance(value, (str, int, float, bool))
    }
    process = {
        "PULSE_START": os.environ.get("PULSE_START"),
        "PYTHONPATH": os.environ.get("PYTHONPATH"),
        "executable": Path(sys.executable).name,
        "group": os.getpgrp() == os.getpid(),
        "path": sys.path,
        "stdin": os.read(0, 1).decode(),
        "fds": len(list(Path("/proc/self/fd").iterdir())),
    }
    return json.dumps(plain | {"process": process})


VIEWS: dict[str, Callable[[Environ], str]] = {
    "/pid": _pid,
    "/say": _say,
    "/segv": _segv,
    "/term": _term,
    "/unnamed": _unnamed,
    "/exit": _exit,
    "/nap": _nap,
    "/native": _native,
    "/stubborn": _stubborn,
    "/family": _family,
    "/runaway": _runaway,
    "/look": _look,
    "/fork": _fork,
    "/forked-nap": _forked_nap,
    "/signalled-fork": _signalled_fork,
}


def app(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Behave as the path says, and respond with the result."""
    body = VIEWS[str(environ["PATH_INFO"])](environ).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


class Wrapping:
    """The part of a `PulseMiddleware` that child processes need: it registers itself."""

    def __init__(
        self, wrapped: Callable[..., Iterable[bytes]], digest: str, name: str | None = None
    ) -> None:
        self.app = wrapped
        self.fingerprint = MiddlewareFingerprint(digest=digest, name=name)
        self.extra = {"pulse.scheduler": digest}
        register(self)

    def __call__(self, _: Environ, __: object) -> Iterable[bytes]:
        """Refuse: no run may reach this wrapper."""
        raise AssertionError("a run came in through the outermost application")


outermost = Wrapping(Wrapping(app, "inner"), "outer")


def make_fresh() -> Wrapping:
    """Return a new wrapped application, equal to the module's inner one."""
    return Wrapping(app, "inner")


def make_outermost(_: dict[str, str], **__: str) -> Wrapping:
    """Return a wrapped application; a `paste.app_factory`."""
    return Wrapping(app, "paste")


def make_bare(_: dict[str, str], **__: str) -> Callable[..., Iterable[bytes]]:
    """Return the application alone; a `paste.app_factory`."""
    return app
