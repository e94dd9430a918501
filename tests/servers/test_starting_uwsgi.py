"""uWSGI: every worker begins before any request, once; its master and its mules do not."""

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


@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])
@pytest.mark.parametrize(
    "more",
    [(), ("--threads", "2"), ("--py-call-osafterfork",)],
    ids=["plain", "threads", "at-fork"],
)
def test_each_worker_begins_before_any_request(
    lazy: tuple[str, ...], more: tuple[str, ...], tmp_path: Path
) -> None:
    """Both workers begin once, without a request, and requests begin nothing more."""
    with uwsgi(tmp_path, "--master", "--processes", "2", *lazy, *more) as server:
        begun = server.wait_begun(2)
        served = server.wait_answered(begun)
        server.stop()

    assert len(server.pids("begin")) == len(set(begun) - {server.pid}) == 2
    assert served <= set(begun)


@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])
def test_a_worker_with_gevent_begins(lazy: tuple[str, ...], tmp_path: Path) -> None:
    """With `--gevent` each worker begins, and what it spawns runs in uWSGI's own hub."""
    options = ("--master", "--processes", "1", "--gevent", "9", "--gevent-monkey-patch", *lazy)
    with uwsgi(tmp_path, *options, environ={"PROBE_ASK": "1"}) as server:
        begun = server.wait_begun(1)
        server.wait_for(lambda: "True" in str(server.events("serving")), what="it serves")

    assert server.pids("begin") == begun != [server.pid]


@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])
@pytest.mark.parametrize("load", ["module", "wsgi-file", "ini-paste"])
def test_a_worker_claims_once_its_application_is_loaded(
    load: str, lazy: tuple[str, ...], tmp_path: Path
) -> None:
    """However the application is loaded, the end of its loading is noticed, not its beginning."""
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
        server.wait_for(lambda: "True" in str(server.events("serving")), what="it serves")

    names = [(e.name, *e.rest) for e in server.events() if e.name in {"serving", "loaded"}]
    assert ("loaded",) not in names[names.index(("serving", "True")) :]


def test_mules_do_not_begin(tmp_path: Path) -> None:
    """A mule runs the same hook after its fork and does not begin."""
    with uwsgi(tmp_path, "--master", "--processes", "1", "--mule") as server:
        begun = server.wait_begun(1)
        served = int(server.get().text)
        server.wait_workers(2)
        server.stop()

    assert begun == [served]
    assert server.pids("begin") == begun


def test_a_single_process_without_a_master_begins(tmp_path: Path) -> None:
    """Without a master the one process begins before any request, once."""
    with uwsgi(tmp_path, "--processes", "1") as server:
        begun = server.wait_begun(1)
        served = int(server.get().text)

    assert begun == [server.pid] == [served]
    assert server.pids("begin") == begun


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
        begun = server.wait_begun(2)

        assert sorted(server.pids("own")) == sorted(begun)


@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])
def test_workers_of_a_reload_begin(lazy: tuple[str, ...], tmp_path: Path) -> None:
    """HUP replaces the workers: the new ones begin, the old ones end."""
    # uWSGI runs itself anew with the bare interpreter, which knows no virtual environment.
    known = os.pathsep.join([str(ROOT), *sys.path])
    options = ("--master", "--processes", "1", *lazy)
    with uwsgi(tmp_path, *options, environ={"PYTHONPATH": known}) as server:
        first = server.wait_begun(1)
        server.wait_answered(first)
        server.signal(signal.SIGHUP)
        begun = server.wait_begun(2)

        assert server.pids("end") == first
    assert twice(begun) == []


@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])
def test_a_worker_that_is_recycled_begins(lazy: tuple[str, ...], tmp_path: Path) -> None:
    """With max-requests of one, the worker that follows begins before any request."""
    options = ("--master", "--processes", "1", "--max-requests", "1", "--min-worker-lifetime", "0")
    with uwsgi(tmp_path, *options, *lazy) as server:
        first = server.wait_begun(1)
        server.get()
        begun = server.wait_begun(2)

        assert server.pids("end") == first
    assert twice(begun) == []


def test_eager_begins_in_the_master_and_anew_in_its_workers(tmp_path: Path) -> None:
    """With `start = eager` the master begins at once, and so does each worker."""
    environ = {"PROBE_START": "eager"}
    with uwsgi(tmp_path, "--master", "--processes", "1", environ=environ) as server:
        begun = server.wait_begun(2)

        assert begun == [server.pid, *server.workers()]
