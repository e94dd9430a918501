"""Real servers without a folder for the default store: the application is served."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import Server, free_port, program, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.server

SITE = """
from pathlib import Path
from pulse import PulseMiddleware, Task
from pulse.store.sqlite import location

location.own_folder = lambda _: Path(__file__)  # a file in the place of the folder


def site(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served"]


tasks = {"work": Task(action="/work", interval=1)}
app = PulseMiddleware(site, tasks=tasks, start="START", store_fallback="FALLBACK")
"""
DEVELOPMENT = {
    "wsgiref": "from wsgiref.simple_server import make_server\n"
    "make_server('127.0.0.1', {port}, app).serve_forever()\n",
    "werkzeug": "from werkzeug.serving import run_simple\n"
    "run_simple('127.0.0.1', {port}, app, threaded=True)\n",
    "forking": "from werkzeug.serving import run_simple\n"
    "run_simple('127.0.0.1', {port}, app, processes=2)\n",
}
REFUSED = "the tasks of a PulseMiddleware cannot run in this process"
ALONE = "each process now ticks by itself"


def serve(
    command: list[str],
    port: int,
    folder: Path,
    *,
    start: str = "auto",
    fallback: str = "refuse",
) -> Server:
    """Return a server of the site; neither folder of the default store is usable."""
    text = SITE.replace("START", start).replace("FALLBACK", fallback)
    (folder / "site_app.py").write_text(text)
    (folder / "state").touch()
    environ = {"XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(folder)}
    return Server(command, port=port, folder=folder, environ=environ)


def gunicorn(port: int) -> list[str]:
    """Return the command of a server with two workers."""
    return [program("gunicorn"), "-w", "2", "-b", f"127.0.0.1:{port}", "site_app:app"]


@pytest.mark.parametrize("start", ["auto", "eager"])
def test_gunicorn_serves_and_each_worker_logs_one_error(start: str, tmp_path: Path) -> None:
    """Each of them would run every tick."""
    port = free_port()
    with serve(gunicorn(port), port, tmp_path, start=start) as server:
        answers = {server.get("/").text for _ in range(5)}
        wait_until(lambda: server.log_text().count(REFUSED) >= 2, 10, "two errors")
        log = server.log_text()
    assert answers == {"served"}
    assert (log.count(REFUSED), log.count("pulse.config.store_fallback")) == (2, 2)
    assert (f"{tmp_path / 'state'} is no folder (owner " in log, ALONE in log) == (True, False)


def test_gunicorn_with_memory_as_fallback_runs_tasks(tmp_path: Path) -> None:
    """The user has chosen it."""
    port = free_port()
    with serve(gunicorn(port), port, tmp_path, fallback="memory") as server:
        wait_until(lambda: server.log_text().count(ALONE) >= 2, 10, "two notices")
        assert REFUSED not in server.log_text()


@pytest.mark.parametrize(
    ("name", "expected"), [("wsgiref", ALONE), ("werkzeug", ALONE), ("forking", REFUSED)]
)
def test_development_server_of_one_process_uses_memory(
    name: str, expected: str, tmp_path: Path
) -> None:
    """A server that forks for each request has many processes."""
    port = free_port()
    code = "from site_app import app\n" + DEVELOPMENT[name].format(port=port)
    with serve([sys.executable, "-c", code], port, tmp_path) as server:
        assert server.get("/").text == "served"
        wait_until(lambda: expected in server.log_text(), 10, expected)
        log = server.log_text()
    assert (ALONE in log, REFUSED in log) == (expected == ALONE, expected == REFUSED)
