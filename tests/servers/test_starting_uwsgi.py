"""uWSGI: pulse starts once in each worker before any request, not in its master and mules."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.server_logs import twice, uwsgi, write_ini
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.server


SLOW_APP = """
import time
from tests.support import probe
application = probe.wrap(probe.hello)
time.sleep(0.4)
probe.write_event("loaded", "module")
"""


AT_FORK = ["--py-call-uwsgi-fork-hooks"]
"""Options with which uWSGI calls Python's at-fork callbacks in its workers."""
if sys.version_info < (3, 13):  # from 3.13 on it kills the workers: unbit/uwsgi issue 2710
    AT_FORK.append("--py-call-osafterfork")


@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])
@pytest.mark.parametrize(
    "more",
    [(), ("--threads", "2"), *((option,) for option in AT_FORK)],
    ids=["plain", "threads", *AT_FORK],
)
def test_pulse_starts_in_each_worker_before_any_request(
    lazy: tuple[str, ...], more: tuple[str, ...], tmp_path: Path
) -> None:
    """It starts once in both workers, without a request, and requests start nothing more."""
    with uwsgi(tmp_path, "--master", "--processes", "2", *lazy, *more) as server:
        started = server.wait_started(2)
        served = server.wait_answered(started)
        server.stop()

    assert len(server.pids("start")) == len(set(started) - {server.pid}) == 2
    assert served <= set(started)


@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])
def test_pulse_starts_in_a_worker_with_gevent(lazy: tuple[str, ...], tmp_path: Path) -> None:
    """With `--gevent` it starts in each worker, and its greenlets run in uWSGI's own hub."""
    options = ("--master", "--processes", "1", "--gevent", "9", "--gevent-monkey-patch", *lazy)
    with uwsgi(tmp_path, *options, environ={"PROBE_ASK": "1"}) as server:
        started = server.wait_started(1)
        server.wait_for(lambda: "True" in str(server.events("accepts_work")), what="it serves")

    assert server.pids("start") == started != [server.pid]


@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])
@pytest.mark.parametrize("load", ["module", "wsgi-file", "ini-paste"])
def test_a_worker_claims_once_its_application_is_loaded(
    load: str, lazy: tuple[str, ...], tmp_path: Path
) -> None:
    """The end of the loading is detected for each way to load an application."""
    (tmp_path / "slow_app.py").write_text(SLOW_APP)
    ini = write_ini(tmp_path, "use = egg:waitress")
    how = {
        "module": ["--module", "slow_app:application"],
        "wsgi-file": ["--wsgi-file", "slow_app.py"],
        "ini-paste": ["--paste", f"config:{ini}"],
    }
    with uwsgi(
        tmp_path, "--master", "--processes", "1", *lazy, load=how[load], environ={"PROBE_ASK": "1"}
    ) as server:
        server.wait_for(lambda: "True" in str(server.events("accepts_work")), what="it serves")

    names = [(e.name, *e.rest) for e in server.events() if e.name in {"accepts_work", "loaded"}]
    assert ("loaded",) not in names[names.index(("accepts_work", "True")) :]


def test_pulse_does_not_start_in_mules(tmp_path: Path) -> None:
    """A mule runs the same hook after its fork."""
    with uwsgi(tmp_path, "--master", "--processes", "1", "--mule") as server:
        started = server.wait_started(1)
        served = int(server.get().text)
        server.wait_workers(2)
        server.stop()

    assert started == [served]
    assert server.pids("start") == started


def test_pulse_starts_in_a_single_process_without_a_master(tmp_path: Path) -> None:
    """It starts before any request, once."""
    with uwsgi(tmp_path, "--processes", "1") as server:
        started = server.wait_started(1)
        served = int(server.get().text)

    assert started == [server.pid] == [served]
    assert server.pids("start") == started


def test_the_users_own_hook_still_runs(tmp_path: Path) -> None:
    """A `post_fork_hook` that was set before the middleware was built runs too."""
    (tmp_path / "own_app.py").write_text(
        "import uwsgi\n"
        "from tests.support import probe\n"
        "uwsgi.post_fork_hook = lambda: probe.write_event('own', 'hook')\n"
        "app = probe.wrap(probe.hello)\n"
    )
    load = ["--module", "own_app:app"]
    with uwsgi(tmp_path, "--master", "--processes", "2", load=load) as server:
        started = server.wait_started(2)

        assert sorted(server.pids("own")) == sorted(started)


@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])
def test_a_reload_starts_pulse_in_the_new_workers(lazy: tuple[str, ...], tmp_path: Path) -> None:
    """HUP replaces the workers; pulse is shut down in the old ones."""
    # uWSGI restarts with the bare interpreter, which has no virtual environment.
    known = os.pathsep.join([str(ROOT), *sys.path])
    options = ("--master", "--processes", "1", *lazy)
    with uwsgi(tmp_path, *options, environ={"PYTHONPATH": known}) as server:
        first = server.wait_started(1)
        server.wait_answered(first)
        server.signal(signal.SIGHUP)
        started = server.wait_started(2)

        assert server.pids("shutdown") == first
    assert twice(started) == []


@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])
def test_pulse_starts_in_a_recycled_worker(lazy: tuple[str, ...], tmp_path: Path) -> None:
    """With `max-requests = 1` it starts in the next worker before any request."""
    options = ("--master", "--processes", "1", "--max-requests", "1", "--min-worker-lifetime", "0")
    with uwsgi(tmp_path, *options, *lazy) as server:
        first = server.wait_started(1)
        server.get()
        started = server.wait_started(2)

        assert server.pids("shutdown") == first
    assert twice(started) == []


def test_eager_starts_in_the_master_and_in_its_workers(tmp_path: Path) -> None:
    """With `start = eager` pulse starts at once in the master, and in each worker."""
    environ = {"PROBE_START": "eager"}
    with uwsgi(tmp_path, "--master", "--processes", "1", environ=environ) as server:
        started = server.wait_started(2)

        assert started == [server.pid, *server.workers()]
