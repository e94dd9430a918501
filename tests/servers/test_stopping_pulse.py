"""pulse itself in real servers: a run in progress is drained, an idle process ends at once."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import UNMEASURED, Server, free_port, program
from tests.support.uwsgi_status import status_options, wait_accepting

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.server

APP = """
import time
from pathlib import Path
from pulse import PulseMiddleware, Task

def write(what):
    with Path("notes.txt").open("a") as out:
        out.write(what + "\\n")

def app(environ, start_response):
    write("start")
    time.sleep({nap})
    write("shutdown")
    start_response("200 OK", [("Content-Length", "0")])
    return []

task = Task(action="/work", interval={interval!r}, run_at_start={at_start})
app = PulseMiddleware(app, mode={mode!r}, store="memory:", application="worked_app:app",
                      tasks={{"work": task}})
"""

LOGGED_EXIT = """
import time
from pathlib import Path
from gunicorn.glogging import Logger

class logger_class(Logger):
    def info(self, text, *args, **kwargs):
        super().info(text, *args, **kwargs)
        if text.startswith("Worker exiting"):
            self.left_loop_at = time.monotonic()

def worker_exit(server, worker):
    # pulse's part of this hook has run by now.
    Path("took.txt").write_text(str(time.monotonic() - worker.log.left_loop_at))
"""


def serve(
    folder: Path, mode: str, command: list[str], *, nap: float = 0.7, at_start: bool = True
) -> Server:
    """Return a server, not yet started, whose task takes *nap* seconds."""
    code = APP.format(mode=mode, interval="1h", nap=nap, at_start=at_start)
    (folder / "worked_app.py").write_text(code)
    port = free_port()
    named = [part.replace("PORT", str(port)) for part in command]
    environ = None
    if is_uwsgi(command):
        named += status_options()
        environ = UNMEASURED
    return Server([program(named[0]), *named[1:]], port=port, folder=folder, environ=environ)


def is_uwsgi(command: list[str]) -> bool:
    """Return whether the server is uWSGI."""
    return command[0] == "uwsgi"


def gunicorn_command(kind: str) -> list[str]:
    """Return the command of a gunicorn with one worker."""
    bind = ["-b", "127.0.0.1:PORT", "--no-control-socket", "-w", "1"]
    return ["gunicorn", *bind, "-k", kind, "worked_app:app"]


UWSGI = ["uwsgi", "--http-socket", "127.0.0.1:PORT", "--master", "--die-on-term"]
UWSGI += ["--enable-threads", "--module", "worked_app:app"]
WAITRESS = ["waitress-serve", "--listen", "127.0.0.1:PORT", "worked_app:app"]

SERVERS = {
    "gunicorn-sync": ("threading", gunicorn_command("sync"), signal.SIGTERM),
    "gunicorn-gthread": ("threading", gunicorn_command("gthread"), signal.SIGTERM),
    "gunicorn-gevent": ("gevent", gunicorn_command("gevent"), signal.SIGTERM),
    "gunicorn-gevent-quit": ("gevent", gunicorn_command("gevent"), signal.SIGQUIT),
    "uwsgi": ("threading", UWSGI, signal.SIGTERM),
    "uwsgi-lazy": ("threading", [*UWSGI, "--lazy-apps"], signal.SIGTERM),
    "waitress": ("threading", WAITRESS, signal.SIGINT),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_run_in_progress_is_drained(name: str, tmp_path: Path) -> None:
    """A run that started without any request finishes while its server stops."""
    mode, command, number = SERVERS[name]
    notes = tmp_path / "notes.txt"
    with serve(tmp_path, mode, command) as server:
        server.wait_for(notes.exists, what="the start of the run")
        if is_uwsgi(command):
            wait_accepting(server, 1)
        server.stop(number)
        log = server.log_text()

    assert notes.read_text().split() == ["start", "shutdown"]
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("mode", "command", "number"),
    [
        ("threading", gunicorn_command("sync"), signal.SIGTERM),
        ("gevent", gunicorn_command("gevent"), signal.SIGTERM),
        ("processing", gunicorn_command("gthread"), signal.SIGTERM),
        ("threading", WAITRESS, signal.SIGINT),
    ],
    ids=["threading", "gevent", "processing", "waitress"],
)
def test_a_second_signal_interrupts_the_run(
    mode: str, command: list[str], number: signal.Signals, tmp_path: Path
) -> None:
    """The second signal ends the drain; the run is recorded as interrupted."""
    notes = tmp_path / "notes.txt"
    with serve(tmp_path, mode, command, nap=30) as server:
        server.wait_for(notes.exists, what="the start of the run")
        server.signal(number)
        with pytest.raises(AssertionError, match="has not ended"):
            server.wait_ended(1.3)
        server.stop(signal.SIGINT, timeout=4.0)
        log = server.log_text()

    assert notes.read_text().split() == ["start"]
    assert "interrupted in" in log


@pytest.mark.parametrize(
    ("kind", "mode"), [("sync", "threading"), ("gthread", "threading"), ("gevent", "gevent")]
)
def test_an_idle_worker_is_not_delayed(kind: str, mode: str, tmp_path: Path) -> None:
    """Between the worker's last loop and its exit, pulse takes less than 0.2 s."""
    (tmp_path / "gunicorn.conf.py").write_text(LOGGED_EXIT)
    with serve(tmp_path, mode, gunicorn_command(kind), at_start=False) as server:
        server.get()
        status = server.stop()
        log = server.log_text()

    assert status == 0
    assert float((tmp_path / "took.txt").read_text()) < 0.2
    assert "Traceback" not in log
