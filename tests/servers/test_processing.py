"""Mode processing inside real servers: runs happen in children, which end with their worker."""

from __future__ import annotations

from signal import SIGKILL
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.processing_site import CONFIG
from tests.support.servers import (
    ROOT,
    UNMEASURED,
    Server,
    free_port,
    is_alive,
    program,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.server

GONE_S = 2.0


class Ran(NamedTuple):
    """A run that the site has recorded."""

    pid: int
    parent: int
    path: str


def gunicorn(folder: Path, *options: str) -> Server:
    """Return a gunicorn with one worker, not yet started."""
    port = free_port()
    command = [program("gunicorn"), "-b", f"127.0.0.1:{port}", "--no-control-socket"]
    command += ["--graceful-timeout", "2"]  # also for a new worker that is deaf while it boots
    return _server([*command, *options], port, folder)


def uwsgi(folder: Path, *options: str) -> Server:
    """Return a uWSGI with a master and one worker, not yet started."""
    port = free_port()
    command = [program("uwsgi"), "--http-socket", f"127.0.0.1:{port}", "--master", "--need-app"]
    more = ["--die-on-term", "--enable-threads", "--pythonpath", str(ROOT)]
    return _server([*command, *more, *options], port, folder, UNMEASURED)


def _server(
    command: list[str], port: int, folder: Path, environ: dict[str, str | None] | None = None
) -> Server:
    runs = folder / "runs"
    runs.touch()
    environ = {"RUNS": str(runs)} | (environ or {})
    return Server(command, port=port, folder=folder, environ=environ)


def write_ini(folder: Path) -> Path:
    """Return the path of an ini file with pulse as a filter before the site."""
    lines = ["[pipeline:main]", "pipeline = pulse site", "", "[filter:pulse]", "use = egg:pulse"]
    lines += [f"{key} = {value}" for key, value in CONFIG.items()]
    lines += ["", "[app:site]", "paste.app_factory = tests.support.processing_site:make_site", ""]
    port = free_port()
    lines += ["[server:main]", "use = egg:waitress", f"listen = 127.0.0.1:{port}", ""]
    path = folder / "site.ini"
    path.write_text("\n".join(lines))
    return path


def _by_import(folder: Path, kind: str) -> Server:
    match kind:
        case "uwsgi":
            return uwsgi(folder, "--module", "tests.support.processing_site:outermost")
        case "uwsgi-gevent":
            more = ("--gevent", "10", "--gevent-monkey-patch")
            return uwsgi(folder, "--module", "tests.support.processing_site:outermost", *more)
    return gunicorn(folder, "-k", kind, "tests.support.processing_site:outermost")


def _by_paste(folder: Path, kind: str) -> Server:
    ini = write_ini(folder)
    match kind:
        case "uwsgi":
            return uwsgi(folder, "--ini-paste", str(ini))
        case "pserve":
            port = int(ini.read_text().rpartition(":")[2])
            return _server([program("pserve"), str(ini)], port, folder)
    return gunicorn(folder, "-k", kind, "--paste", str(ini))


def ran(server: Server, path: str) -> list[Ran]:
    """Return the runs of a path that the site has recorded, oldest first."""
    lines = [line.split() for line in (server.folder / "runs").read_text().splitlines()]
    found = [Ran(int(fields[1]), int(fields[2]), fields[3]) for fields in lines]
    return [run for run in found if run.path == path]


def wait_ran(server: Server, path: str) -> Ran:
    """Wait for a run of a path, and return the latest."""
    return server.wait_for(lambda: ran(server, path), 15.0, f"a run of {path}")[-1]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (_by_import, "sync"),
        (_by_import, "gevent"),
        (_by_import, "uwsgi"),
        (_by_import, "uwsgi-gevent"),
        (_by_paste, "gthread"),
        (_by_paste, "gevent"),
        (_by_paste, "uwsgi"),
        (_by_paste, "pserve"),
    ],
)
def test_runs_happen_in_children_of_the_worker_and_end_with_it(
    make: Callable[[Path, str], Server], kind: str, tmp_path: Path
) -> None:
    """Two tasks run at once, each in a child; after TERM or SIGKILL no child is left."""
    with make(tmp_path, kind) as server:
        quick, slow = (wait_ran(server, path) for path in ("/quick", "/slow"))
        worker = int(server.get("/").text)
        assert {quick.parent, slow.parent} == {worker}
        assert len({quick.pid, slow.pid, worker}) == 3
        server.signal(SIGKILL, worker)
        children = quick.pid, slow.pid
        wait_until(lambda: not any(map(is_alive, children)), GONE_S, "the children are gone")


@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_a_server_that_stops_ends_its_children(kind: str, tmp_path: Path) -> None:
    """On TERM the slow run is interrupted within the server's limit, and no child is left."""
    with gunicorn(tmp_path, "-k", kind, "tests.support.processing_site:outermost") as server:
        child = wait_ran(server, "/slow").pid
        status = server.stop()
        assert (status, is_alive(child)) == (0, False)
        assert "interrupted because this process stops; it was here:" in server.log_text()


def test_a_view_in_a_child_triggers_a_run_through_the_store(tmp_path: Path) -> None:
    """Its handle uses the store that the workers share; its worker is the only member."""
    with gunicorn(tmp_path, "tests.support.asking_site:application") as server:
        runs = tmp_path / "runs"
        server.wait_for(lambda: "answer" in runs.read_text(), 15.0, "the answer")
        asked, answered = (line.split() for line in runs.read_text().splitlines())
        assert asked == ["ask", asked[1], server.get("/").text, "True"]
        assert answered == ["answer", "asked", "by", asked[1]]
