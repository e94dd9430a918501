"""Apps that record each scheduled call under a mark of their own, and servers for them."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.support.servers import ROOT, UNMEASURED, Server, free_port, program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIEnvironment


class Call(NamedTuple):
    """A scheduled call, as the app recorded it."""

    mark: str
    task: str
    fire_time: str
    pid: int


class Leaf:
    """An app that records scheduled calls."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Record a scheduled call in one write; respond with the mark."""
        if "pulse.run" in environ:
            task, fire_time = environ["HTTP_X_PULSE_TASK"], environ["HTTP_X_PULSE_FIRE_TIME"]
            line = f"{self.mark} {task} {fire_time} {os.getpid()}\n"
            file = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(file, line.encode())
            os.close(file)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [self.mark.encode()]


def make_leaf(_global_conf: dict[str, str], mark: str) -> Leaf:
    """Return a leaf; a `paste.app_factory`."""
    return Leaf(mark)


def make_composite(loader: Any, global_conf: dict[str, str], **apps: str) -> Any:
    """Return the application that a key of the section names; a composite."""
    mounts = {path: loader.get_app(name, global_conf=global_conf) for path, name in apps.items()}
    return DispatcherMiddleware(Leaf("nowhere"), mounts)


class Marked(Server):
    """A server program over such apps."""

    def calls(self) -> list[Call]:
        """Return the calls so far, oldest first."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        fields = [line.split() for line in lines]
        return [Call(mark, task, fire_time, int(pid)) for mark, task, fire_time, pid in fields]

    def wait_calls(self, count: int, timeout: float = 15.0) -> list[Call]:
        """Return the calls, once there are so many."""
        self.wait_for(lambda: len(self.calls()) >= count, timeout, f"{count} calls")
        return self.calls()


def write(folder: Path, name: str, text: str) -> Path:
    """Return the path of a new file with the dedented *text*."""
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def gunicorn(*options: str) -> Callable[[Path, Sequence[str]], Marked]:
    """Return a maker of a gunicorn with one worker."""

    def make(folder: Path, what: Sequence[str]) -> Marked:
        port = free_port()
        command = [program("gunicorn"), "-b", f"127.0.0.1:{port}", "--no-control-socket"]
        return _marked([*command, "--graceful-timeout", "3", *options, *what], port, folder)

    return make


def uwsgi(*options: str) -> Callable[[Path, Sequence[str]], Marked]:
    """Return a maker of a uWSGI with a master and one worker."""

    def make(folder: Path, what: Sequence[str]) -> Marked:
        port = free_port()
        command = [program("uwsgi"), "--http-socket", f"127.0.0.1:{port}", "--master"]
        command += ["--need-app", "--die-on-term", "--enable-threads", *options]
        load = ["--paste", f"config:{what[1]}"] if what[0] == "--paste" else ["--module", *what]
        return _marked([*command, *load], port, folder, UNMEASURED)

    return make


def waitress(folder: Path, what: Sequence[str]) -> Marked:
    """Return a waitress, started by its own program with the name of a factory."""
    port = free_port()
    target = what[0].removesuffix("()")
    call = ["--call"] if target != what[0] else []
    command = [program("waitress-serve"), "--listen", f"127.0.0.1:{port}", *call, target]
    return _marked(command, port, folder)


def pserve(folder: Path, *words: str) -> Marked:
    """Return a pserve of an ini file with `listen = 127.0.0.1:%(port)s`."""
    port = free_port()
    return _marked([program("pserve"), *words, f"port={port}"], port, folder)


def _marked(
    command: list[str], port: int, folder: Path, more: dict[str, str | None] | None = None
) -> Marked:
    environ = {
        "CALLS": str(folder / "calls"),
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
    }
    return Marked(command, port=port, folder=folder, environ=environ | (more or {}))


SERVERS: dict[str, Callable[[Path, Sequence[str]], Marked]] = {
    "gunicorn": gunicorn(),
    "gunicorn preload": gunicorn("--preload"),
    "gunicorn gevent": gunicorn("-k", "gevent"),
    "waitress": waitress,
    "uwsgi": uwsgi(),
    "uwsgi lazy": uwsgi("--lazy-apps"),
}
