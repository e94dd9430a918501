"""gunicorn: pulse starts once in each worker, before any request, and in no other process."""

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
def test_pulse_starts_in_each_worker_before_any_request(
    kind: str, preload: tuple[str, ...], tmp_path: Path
) -> None:
    """The service starts once in each of four workers, without a request, and not in the master."""
    with gunicorn(tmp_path, "-k", kind, "-w", "4", *preload) as server:
        started = server.wait_started(4)
        server.stop()

    assert sorted(started) == sorted(set(started) - {server.pid})
    assert len(server.pids("start")) == 4


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])
def test_requests_start_nothing_more_in_a_single_worker(
    preload: tuple[str, ...], tmp_path: Path
) -> None:
    """It starts before any request, and the first request starts nothing more."""
    with gunicorn(tmp_path, "-w", "1", *preload) as server:
        started = server.wait_started(1)
        answers = [int(server.get().text) for _ in range(3)]

    assert answers == started * 3
    assert server.pids("start") == started


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])
@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_a_reload_starts_pulse_in_new_workers_and_shuts_it_down_in_old_ones(
    kind: str, preload: tuple[str, ...], tmp_path: Path
) -> None:
    """HUP replaces the workers; with preload the test does that twice."""
    with gunicorn(tmp_path, "-k", kind, "-w", "2", *preload) as server:
        generations = [server.wait_started(2)]
        for number in (1, 2) if preload else (1,):
            server.signal(signal.SIGHUP)
            generations.append(server.wait_started(2 + 2 * number)[2 * number :])
            server.wait_workers(2, gone=generations[-2])

        assert sorted(server.workers()) == sorted(generations[-1])
        assert sorted(server.pids("shutdown")) == sorted(pid for g in generations[:-1] for pid in g)
    assert twice(server.pids("start")) == twice(server.pids("shutdown")) == []


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])
def test_pulse_starts_in_an_added_worker_and_shuts_down_in_a_removed_one(
    preload: tuple[str, ...], tmp_path: Path
) -> None:
    """TTIN adds a worker, and TTOU removes one."""
    with gunicorn(tmp_path, "-w", "1", *preload) as server:
        first = server.wait_started(1)
        server.signal(signal.SIGTTIN)
        both = server.wait_started(2)
        server.signal(signal.SIGTTOU)
        ended = server.wait_events("shutdown")

    assert ended[0].pid in both
    assert both[0] == first[0]
    assert twice(both) == []


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])
def test_pulse_starts_in_the_workers_of_a_new_master(
    preload: tuple[str, ...], tmp_path: Path
) -> None:
    """USR2 starts a second master; pulse starts only in its workers."""
    with gunicorn(tmp_path, "-w", "1", *preload) as server:
        first = server.wait_started(1)
        server.signal(signal.SIGUSR2)
        started = server.wait_started(2)
        second_master = server.events("start")[1].parent

        assert server.events("start")[1].parent not in (server.pid, *started)
        server.signal(signal.SIGTERM, second_master)
        server.wait_for(lambda: started[1] not in server.family(), what="the second worker ends")
    assert started[0] == first[0]
    assert twice(server.pids("start")) == []


@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_pulse_starts_in_recycled_workers(kind: str, tmp_path: Path) -> None:
    """With `max_requests = 1` pulse starts in the next worker before any request."""
    with gunicorn(tmp_path, "-k", kind, "-w", "1", "--max-requests", "1") as server:
        server.wait_started(1)
        server.get()
        started = server.wait_started(2)

        assert server.workers() == [started[1]]


WATCHED_RELOADER = """
from tests.support import probe
from gunicorn.reloader import Reloader, reloader_engines

class Watched(Reloader):
    def get_files(self):
        probe.write_event("look", "reloader")
        return super().get_files()

reloader_engines["poll"] = Watched
"""


def test_pulse_starts_in_a_worker_that_reloads_its_code(tmp_path: Path) -> None:
    """With `--reload` a worker whose code changed is replaced."""
    (tmp_path / "gunicorn.conf.py").write_text(WATCHED_RELOADER)
    (tmp_path / "own_app.py").write_text("from tests.support.probe_app import app\n")
    (tmp_path / "changed").write_text("from tests.support.probe_app import app\nchanged = True\n")
    options = ("-w", "1", "--reload", "--reload-engine", "poll")
    with gunicorn(tmp_path, *options, app=["own_app:app"]) as server:
        first = server.wait_started(1)
        server.wait_events("look", 2)  # the first look, which knows no older state, is over
        (tmp_path / "changed").touch()
        (tmp_path / "changed").rename(tmp_path / "own_app.py")
        started = server.wait_started(2)

        assert server.wait_workers(1, gone=first) == [started[1]]


def test_pulse_starts_in_workers_that_serve_an_ini_file(tmp_path: Path) -> None:
    """With `gunicorn --paste` it starts in each worker, and in no other process."""
    ini = write_ini(tmp_path, "use = egg:gunicorn")
    with gunicorn(tmp_path, "-w", "2", app=["--paste", str(ini)]) as server:
        started = server.wait_started(2)

        assert sorted(started) == server.workers()


def test_pserve_with_gunicorn_starts_pulse_in_workers_only(tmp_path: Path) -> None:
    """The master of `pserve` with egg:gunicorn loads the application, but starts nothing."""
    port = free_port()
    ini = write_ini(
        tmp_path,
        "use = egg:gunicorn",
        f"bind = 127.0.0.1:{port}",
        "workers = 2",
        "control_socket_disable = true",
    )
    with Witnessed([program("pserve"), str(ini)], port=port, folder=tmp_path) as server:
        started = server.wait_started(2)

        assert sorted(started) == server.workers()
        assert server.pids("built") == [server.pid]


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])
def test_pulse_never_starts_in_dirty_processes(preload: tuple[str, ...], tmp_path: Path) -> None:
    """Gunicorn's dirty arbiter and dirty workers build the application and start nothing."""
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
        started = server.wait_started(1)
        dirty = server.wait_events("dirty")

        assert len(started) == 1
        assert dirty[0].pid not in started
        assert started[0] in server.workers()


def test_a_check_of_the_configuration_starts_nothing(tmp_path: Path) -> None:
    """`gunicorn --check-config` builds the application, starts nothing and exits with 0."""
    server = gunicorn(tmp_path, "--check-config")
    server.start()

    status = server.wait_ended()

    assert status == 0, server.log_text()
    assert [event.name for event in server.events()] == ["built", "loaded"]


def test_a_request_within_the_master_starts_nothing(tmp_path: Path) -> None:
    """An application that requests itself while it is preloaded starts nothing in the master."""
    (tmp_path / "warm_app.py").write_text(
        "from webob import Request\n"
        "from tests.support.probe_app import app\n"
        "assert Request.blank('/').get_response(app).status_int == 200\n"
    )
    with gunicorn(tmp_path, "-w", "1", "--preload", app=["warm_app:app"]) as server:
        started = server.wait_started(1)

        assert started == server.workers()


def test_several_middlewares_start_and_shut_down_independently(tmp_path: Path) -> None:
    """Each of three middlewares starts once in each worker, and is shut down once."""
    with gunicorn(tmp_path, "-w", "2", "--preload", environ={"PROBE_COUNT": "3"}) as server:
        server.wait_started(6)
        server.stop()

    for name in ("start", "shutdown", "shut_down"):
        pairs = {(event.pid, event.probe) for event in server.events(name)}
        assert len(pairs) == len(server.events(name)) == 6, name


def test_pulse_starts_in_the_replacement_of_a_killed_worker(tmp_path: Path) -> None:
    """The worker was killed with SIGKILL."""
    with gunicorn(tmp_path, "-w", "1", "--preload") as server:
        first = server.wait_started(1)
        server.signal(signal.SIGKILL, first[0])
        started = server.wait_started(2)

        assert server.wait_workers(1, gone=first) == [started[1]]


def test_eager_starts_in_the_master_and_in_its_workers(tmp_path: Path) -> None:
    """With `start = eager` pulse starts at once in a preloading master, and in each worker."""
    environ = {"PROBE_START": "eager"}
    with gunicorn(tmp_path, "-w", "2", "--preload", environ=environ) as server:
        started = server.wait_started(3)

        assert sorted(started) == sorted([server.pid, *server.workers()])
        assert started[0] == server.pid


@pytest.mark.parametrize(
    "environ", [{"PROBE_START": "off"}, {"PULSE_START": "off"}], ids=["setting", "environment"]
)
def test_off_never_starts(environ: dict[str, str], tmp_path: Path) -> None:
    """With `start = off` or PULSE_START=off, workers serve without pulse."""
    with gunicorn(tmp_path, "-w", "1", environ=environ) as server:
        answer = server.get()
        server.stop()

    assert answer.status == 200
    assert {event.name for event in server.events()} == {"built", "loaded"}
