"""gunicorn: every worker begins before any request, once, and nothing else does."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.server_logs import Witnessed, gunicorn, twice, write_ini
from tests.support.servers import free_port, program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.server

CLASSES = ["sync", "gthread", "gevent", "gevent_pywsgi"]


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])
@pytest.mark.parametrize("kind", CLASSES)
def test_each_worker_begins_before_any_request(
    kind: str, preload: tuple[str, ...], tmp_path: Path
) -> None:
    """Of four workers and a master, the four workers begin, once each, without a request."""
    with gunicorn(tmp_path, "-k", kind, "-w", "4", *preload) as server:
        begun = server.wait_begun(4)
        server.stop()

    assert sorted(begun) == sorted(set(begun) - {server.pid})
    assert len(server.pids("begin")) == 4


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])
def test_a_single_worker_begins_and_its_requests_change_nothing(
    preload: tuple[str, ...], tmp_path: Path
) -> None:
    """One worker begins before any request, and the first request begins nothing more."""
    with gunicorn(tmp_path, "-w", "1", *preload) as server:
        begun = server.wait_begun(1)
        answers = [int(server.get().text) for _ in range(3)]

    assert answers == begun * 3
    assert server.pids("begin") == begun


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])
@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_workers_of_a_reload_begin_and_end(
    kind: str, preload: tuple[str, ...], tmp_path: Path
) -> None:
    """HUP replaces the workers: the new ones begin, the old ones end; with preload twice over."""
    with gunicorn(tmp_path, "-k", kind, "-w", "2", *preload) as server:
        generations = [server.wait_begun(2)]
        for number in (1, 2) if preload else (1,):
            server.signal(signal.SIGHUP)
            generations.append(server.wait_begun(2 + 2 * number)[2 * number :])
            server.wait_workers(2, gone=generations[-2])

        assert sorted(server.workers()) == sorted(generations[-1])
        assert sorted(server.pids("end")) == sorted(pid for g in generations[:-1] for pid in g)
    assert twice(server.pids("begin")) == twice(server.pids("end")) == []


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])
def test_workers_that_are_added_and_taken_away(preload: tuple[str, ...], tmp_path: Path) -> None:
    """TTIN's worker begins; TTOU's ends."""
    with gunicorn(tmp_path, "-w", "1", *preload) as server:
        first = server.wait_begun(1)
        server.signal(signal.SIGTTIN)
        both = server.wait_begun(2)
        server.signal(signal.SIGTTOU)
        ended = server.wait_events("end")

    assert ended[0].pid in both
    assert both[0] == first[0]
    assert twice(both) == []


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])
def test_workers_of_a_new_master_begin(preload: tuple[str, ...], tmp_path: Path) -> None:
    """USR2 starts a second master, in which only its workers begin."""
    with gunicorn(tmp_path, "-w", "1", *preload) as server:
        first = server.wait_begun(1)
        server.signal(signal.SIGUSR2)
        begun = server.wait_begun(2)
        second_master = server.events("begin")[1].parent

        assert server.events("begin")[1].parent not in (server.pid, *begun)
        server.signal(signal.SIGTERM, second_master)
        server.wait_for(lambda: begun[1] not in server.family(), what="the second worker ends")
    assert begun[0] == first[0]
    assert twice(server.pids("begin")) == []


@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_workers_that_are_recycled_begin(kind: str, tmp_path: Path) -> None:
    """With max_requests of one, the worker that follows begins before any request."""
    with gunicorn(tmp_path, "-k", kind, "-w", "1", "--max-requests", "1") as server:
        server.wait_begun(1)
        server.get()
        begun = server.wait_begun(2)

        assert server.workers() == [begun[1]]


WATCHED_RELOADER = """
from tests.support import probe
from gunicorn.reloader import Reloader, reloader_engines

class Watched(Reloader):
    def get_files(self):
        probe.write_event("look", "reloader")
        return super().get_files()

reloader_engines["poll"] = Watched
"""


def test_a_worker_that_reloads_its_code_begins(tmp_path: Path) -> None:
    """With `--reload`, the worker that replaces one whose code changed begins."""
    (tmp_path / "gunicorn.conf.py").write_text(WATCHED_RELOADER)
    (tmp_path / "own_app.py").write_text("from tests.support.probe_app import app\n")
    (tmp_path / "changed").write_text("from tests.support.probe_app import app\nchanged = True\n")
    options = ("-w", "1", "--reload", "--reload-engine", "poll")
    with gunicorn(tmp_path, *options, app=["own_app:app"]) as server:
        first = server.wait_begun(1)
        server.wait_events("look", 2)  # the first look, which knows no older state, is over
        (tmp_path / "changed").touch()
        (tmp_path / "changed").rename(tmp_path / "own_app.py")
        begun = server.wait_begun(2)

        assert server.wait_workers(1, gone=first) == [begun[1]]


def test_gunicorn_serves_an_ini_file(tmp_path: Path) -> None:
    """`gunicorn --paste` begins each worker, and only those."""
    ini = write_ini(tmp_path, "use = egg:gunicorn")
    with gunicorn(tmp_path, "-w", "2", app=["--paste", str(ini)]) as server:
        begun = server.wait_begun(2)

        assert sorted(begun) == server.workers()


def test_pserve_runs_gunicorn(tmp_path: Path) -> None:
    """`pserve` with egg:gunicorn loads the application in its master, which does not begin."""
    port = free_port()
    ini = write_ini(
        tmp_path,
        "use = egg:gunicorn",
        f"bind = 127.0.0.1:{port}",
        "workers = 2",
        "control_socket_disable = true",
    )
    with Witnessed([program("pserve"), str(ini)], port=port, folder=tmp_path) as server:
        begun = server.wait_begun(2)

        assert sorted(begun) == server.workers()
        assert server.pids("built") == [server.pid]


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])
def test_dirty_processes_never_begin(preload: tuple[str, ...], tmp_path: Path) -> None:
    """Gunicorn's dirty arbiter and workers build the application and begin nothing."""
    (tmp_path / "dirty_app.py").write_text(
        "import importlib\n"
        "from tests.support import probe\n"
        "from gunicorn.dirty.app import DirtyApp\n"
        "class Heavy(DirtyApp):\n"
        "    def init(self):\n"
        "        self.app = probe.wrap(probe.hello)\n"
        "        probe.write_event('dirty', 'app')\n"
        "    def __call__(self, action, *args, **kwargs):\n"
        "        return action\n"
    )
    options = ("-w", "1", *preload, "--dirty-app", "dirty_app:Heavy", "--dirty-workers", "1")
    with gunicorn(tmp_path, *options) as server:
        begun = server.wait_begun(1)
        dirty = server.wait_events("dirty")

        assert len(begun) == 1
        assert dirty[0].pid not in begun
        assert begun[0] in server.workers()


def test_a_check_of_the_configuration_begins_nothing(tmp_path: Path) -> None:
    """`gunicorn --check-config` builds the application, begins nothing and ends well."""
    server = gunicorn(tmp_path, "--check-config")
    server.start()

    status = server.wait_ended()

    assert status == 0, server.log_text()
    assert [event.name for event in server.events()] == ["built", "loaded"]


def test_a_request_within_the_master_begins_nothing(tmp_path: Path) -> None:
    """An application that requests itself while it is preloaded does not begin the master."""
    (tmp_path / "warm_app.py").write_text(
        "from webob import Request\n"
        "from tests.support.probe_app import app\n"
        "assert Request.blank('/').get_response(app).status_int == 200\n"
    )
    with gunicorn(tmp_path, "-w", "1", "--preload", app=["warm_app:app"]) as server:
        begun = server.wait_begun(1)

        assert begun == server.workers()


def test_several_middlewares_begin_and_end_independently(tmp_path: Path) -> None:
    """Three middlewares around one application each begin once in each worker, and end once."""
    with gunicorn(tmp_path, "-w", "2", "--preload", environ={"PROBE_COUNT": "3"}) as server:
        server.wait_begun(6)
        server.stop()

    for name in ("begin", "end", "ended"):
        pairs = {(event.pid, event.probe) for event in server.events(name)}
        assert len(pairs) == len(server.events(name)) == 6, name


def test_a_worker_that_is_killed_is_replaced_by_one_that_begins(tmp_path: Path) -> None:
    """The replacement of a worker killed -9 begins."""
    with gunicorn(tmp_path, "-w", "1", "--preload") as server:
        first = server.wait_begun(1)
        server.signal(signal.SIGKILL, first[0])
        begun = server.wait_begun(2)

        assert server.wait_workers(1, gone=first) == [begun[1]]


def test_eager_begins_in_the_master_and_anew_in_its_workers(tmp_path: Path) -> None:
    """With `start = eager` a preloading master begins at once, and so does each worker."""
    environ = {"PROBE_START": "eager"}
    with gunicorn(tmp_path, "-w", "2", "--preload", environ=environ) as server:
        begun = server.wait_begun(3)

        assert sorted(begun) == sorted([server.pid, *server.workers()])
        assert begun[0] == server.pid


@pytest.mark.parametrize(
    "environ", [{"PROBE_START": "off"}, {"PULSE_START": "off"}], ids=["setting", "environment"]
)
def test_off_never_begins(environ: dict[str, str], tmp_path: Path) -> None:
    """With `start = off`, or PULSE_START=off, workers serve and do not begin."""
    with gunicorn(tmp_path, "-w", "1", environ=environ) as server:
        answer = server.get()
        server.stop()

    assert answer.status == 200
    assert {event.name for event in server.events()} == {"built", "loaded"}
