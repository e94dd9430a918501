"""uWSGI with several mounted applications, each in an interpreter of its own by default."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.server_logs import twice, uwsgi
from tests.support.servers import ROOT
from tests.support.uwsgi_status import wait_accepting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.server_logs import Event, Witnessed

pytestmark = pytest.mark.server

# A statement `import sys` finds the module of the interpreter that executes it, so the sites in
# `sys.modules` show in which interpreter the call and the thread run.
PROBED = """
import threading
from tests.support import probe

def note(event):
    import sys
    sites = sorted(name for name in sys.modules if name.endswith("_site"))
    probe.write_event(event, "NAME", *sites)

class Witness(probe.Witness):
    def start(self):
        running = super().start()
        note("called")
        threading.Thread(target=note, args=("threaded",), daemon=True).start()
        return running

probe.Witness = Witness
app = probe.Probe(probe.hello, "NAME")
"""
THREADLESS = """
from tests.support import probe
app = probe.Probe(probe.hello, "NAME")
"""
PLAIN = """
from tests.support.probe import hello as app
"""
# The leaf notes each call and its interpreter; no logging is set up.
SCHEDULED = """
import os
from tests.support import probe
from pulse import PulseMiddleware, Task

def leaf(environ, start_response):
    import sys
    if "pulse.run" in environ:
        probe.write_event("run", "NAME", *(n for n in sys.modules if n.endswith("_site")))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]

app = PulseMiddleware(
    leaf, name="NAME", store="memory:", mode=os.environ.get("MODE", "threading"),
    tasks={"cleanup": Task(action="/cleanup", interval=1)},
)
"""
NO_CTYPES = 'raise ImportError("foreign calls are forbidden here")\n'
LAZY = pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])


def mounted(
    folder: Path, *options: str, environ: dict[str, str] | None = None, **sites: str
) -> Witnessed:
    """Return a uWSGI with a master, not yet started, that mounts a site of each name and text."""
    for name, text in sites.items():
        (folder / f"{name}_site.py").write_text(text.replace("NAME", name))
    load = [f"--mount=/{name}={name}_site:app" for name in sites]
    return uwsgi(folder, "--master", "--manage-script-name", *options, load=load, environ=environ)


def of(events: Sequence[Event], *names: str) -> Counter[tuple[str, int]]:
    """Return how often each application wrote an event of these names in each process."""
    return Counter((event.probe, event.pid) for event in events if event.name in names)


@LAZY
@pytest.mark.parametrize(
    "more",
    [("--processes", "1"), ("--processes", "3"), ("--processes", "2", "--threads", "3")],
    ids=["one", "three", "threads"],
)
def test_pulse_starts_for_each_application_in_each_worker_before_any_request(
    lazy: tuple[str, ...], more: tuple[str, ...], tmp_path: Path
) -> None:
    """It starts once for each of three applications; requests start nothing more."""
    count = int(more[1])
    with mounted(tmp_path, *more, *lazy, shop=PROBED, wiki=PROBED, blog=PROBED) as server:
        started = [event.pid for event in server.wait_events("start", 3 * count, timeout=30)]
        wait_accepting(server, count)
        for site in ("shop", "wiki", "blog") * 4 * count:
            server.get(f"/{site}/")
        wait_accepting(server, count)
        server.stop()

    expected = Counter((site, pid) for site in ("shop", "wiki", "blog") for pid in set(started))
    assert len(set(started) - {server.pid}) == count
    assert of(server.events(), "start") == expected


@LAZY
def test_pulse_starts_in_the_interpreter_of_each_application(
    lazy: tuple[str, ...], tmp_path: Path
) -> None:
    """The service and its threads see only the modules of their application."""
    options = ("--processes", "1", *lazy)
    with mounted(tmp_path, *options, shop=PROBED, wiki=PROBED, blog=PROBED) as server:
        server.wait_events("threaded", 3)

    found = [event for event in server.events() if event.name in {"called", "threaded"}]
    assert len(found) == 6
    assert {(event.probe, event.rest) for event in found} == {
        (name, (f"{name}_site",)) for name in ("shop", "wiki", "blog")
    }


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ({"shop": PLAIN, "wiki": PROBED}, {"wiki"}),
        ({"shop": PROBED, "wiki": PLAIN}, {"shop"}),
        ({"shop": PLAIN, "wiki": PROBED, "blog": PLAIN, "news": PROBED}, {"wiki", "news"}),
    ],
    ids=["second", "first", "second-and-fourth"],
)
def test_other_mounted_applications_need_no_pulse(
    sites: dict[str, str], expected: set[str], tmp_path: Path
) -> None:
    """It does not matter which of the applications has a middleware."""
    with mounted(tmp_path, "--processes", "2", **sites) as server:
        server.wait_started(2 * len(expected))
        wait_accepting(server, 2)
        for site in tuple(sites) * 4:
            server.get(f"/{site}/")

    started = of(server.events(), "start")
    assert {name for name, _ in started} == expected
    assert set(started.values()) == {1}
    assert len(started) == 2 * len(expected)


def test_two_middlewares_of_a_second_application_start_once_each(tmp_path: Path) -> None:
    """An application may have several middlewares, in any interpreter."""
    two = PROBED + 'app = probe.Probe(app, "NAME-outer")\n'
    with mounted(tmp_path, "--processes", "2", shop=PROBED, wiki=two) as server:
        started = server.wait_started(6)
        wait_accepting(server, 2)
        server.stop()

    names = ("shop", "wiki", "wiki-outer")
    assert of(server.events(), "start") == Counter((n, p) for n in names for p in set(started))
    assert of(server.events(), "shut_down") == of(server.events(), "start")


def test_all_applications_start_in_a_single_process_without_a_master(tmp_path: Path) -> None:
    """Without a master pulse starts once for each application."""
    for name in ("shop", "wiki"):
        (tmp_path / f"{name}_site.py").write_text(PROBED.replace("NAME", name))
    load = ["--mount=/shop=shop_site:app", "--mount=/wiki=wiki_site:app"]
    with uwsgi(tmp_path, "--processes", "1", load=load) as server:
        server.wait_started(2)

        assert of(server.events(), "start") == {("shop", server.pid): 1, ("wiki", server.pid): 1}


def test_pulse_starts_for_no_application_in_mules(tmp_path: Path) -> None:
    """A mule runs the hook of the first interpreter after its fork."""
    options = ("--processes", "1", "--mule")
    with mounted(tmp_path, *options, shop=PROBED, wiki=PROBED) as server:
        server.wait_started(2)
        server.wait_workers(2)
        worker = int(server.get("/wiki/").text)
        wait_accepting(server, 1)
        server.stop()

    assert set(server.pids("start")) == {worker}


@LAZY
def test_all_applications_start_in_a_recycled_worker(lazy: tuple[str, ...], tmp_path: Path) -> None:
    """With `max-requests = 1` the next worker starts what the old one has shut down."""
    options = ("--processes", "1", "--max-requests", "1", "--min-worker-lifetime", "0", *lazy)
    with mounted(tmp_path, *options, shop=PROBED, wiki=PROBED) as server:
        first = set(server.wait_started(2))
        wait_accepting(server, 1)
        server.get("/wiki/")
        started = server.wait_started(4)

        assert of(server.events(), "shutdown") == {
            (s, p): 1 for s in ("shop", "wiki") for p in first
        }
    assert len(set(started)) == 2


@LAZY
def test_all_applications_start_after_a_reload(lazy: tuple[str, ...], tmp_path: Path) -> None:
    """HUP restarts uWSGI: pulse starts in the new worker and is shut down in the old one."""
    # uWSGI restarts with the bare interpreter, which has no virtual environment.
    known = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    options = ("--processes", "1", *lazy)
    with mounted(tmp_path, *options, environ=known, shop=PROBED, wiki=PROBED) as server:
        first = set(server.wait_started(2))
        wait_accepting(server, 1)
        server.signal(signal.SIGHUP)
        started = server.wait_started(4)

        assert of(server.events(), "shutdown") == {
            (s, p): 1 for s in ("shop", "wiki") for p in first
        }
    assert set(twice(started)) == set(started)
    assert len(set(started)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@LAZY
def test_all_applications_drain_at_the_exit_of_a_worker(
    lazy: tuple[str, ...], number: signal.Signals, tmp_path: Path
) -> None:
    """Each application finishes its work within uWSGI's mercy."""
    options = ("--processes", "2", "--worker-reload-mercy", "9", *lazy)
    slow = {"PROBE_NAP": "0.3"}
    sites = dict.fromkeys(("shop", "wiki", "blog"), PROBED)
    with mounted(tmp_path, *options, environ=slow, **sites) as server:
        server.wait_started(6)
        wait_accepting(server, 2)
        server.stop(number)

    assert of(server.events(), "shut_down") == of(server.events(), "start")
    assert {event.rest for event in server.events("shutdown")} == {("9.0",)}
    assert "Traceback" not in server.log_text()


def test_the_hook_of_the_first_application_runs_too(tmp_path: Path) -> None:
    """The hook was set before the middleware of a second application was built."""
    own = (
        "import uwsgi\n"
        "from tests.support import probe\n"
        "uwsgi.post_fork_hook = lambda: probe.write_event('own', 'hook')\n"
    )
    with mounted(tmp_path, "--processes", "2", shop=own + PLAIN, wiki=PROBED) as server:
        started = server.wait_started(2)

        assert sorted(server.pids("own")) == sorted(started)


def test_a_hook_that_raises_does_not_affect_other_applications(tmp_path: Path) -> None:
    """An error in the first application does not keep the others from starting."""
    wrong = "import uwsgi\nuwsgi.post_fork_hook = lambda: 1 / 0\n"
    with mounted(tmp_path, "--processes", "1", shop=wrong + PLAIN, wiki=PROBED) as server:
        server.wait_started(1)
        server.wait_for(lambda: "ZeroDivisionError" in server.log_text(), what="uWSGI prints it")


def test_eager_starts_in_the_master_and_in_its_workers(tmp_path: Path) -> None:
    """With `start = eager` pulse starts in the master for a second application too."""
    # A thread of the master that holds the interpreter's lock during the fork blocks the worker.
    sites = {"shop": PLAIN, "wiki": THREADLESS}
    environ = {"PROBE_START": "eager"}
    with mounted(tmp_path, "--processes", "1", environ=environ, **sites) as server:
        started = server.wait_started(2)

        assert started == [server.pid, *server.workers()]


@pytest.mark.parametrize("mode", ["threading", "auto"])
@pytest.mark.parametrize(
    "more", [(), ("--threads", "2"), ("--lazy-apps",)], ids=["plain", "threads", "lazy-apps"]
)
def test_tasks_of_each_application_run_without_any_request(
    more: tuple[str, ...], mode: str, tmp_path: Path
) -> None:
    """The real middleware calls each application in its own interpreter, without a warning."""
    sites = dict.fromkeys(("shop", "wiki", "blog"), SCHEDULED)
    options = ("--processes", "1", *more)
    with mounted(tmp_path, *options, environ={"MODE": mode}, **sites) as server:
        server.wait_for(
            lambda: {e.probe for e in server.events("run")} == {"shop", "wiki", "blog"},
            what="each application runs its task",
        )
        log = server.log_text()

    assert {(e.probe, e.rest) for e in server.events("run")} == {
        (name, (f"{name}_site",)) for name in sites
    }
    assert "pulse:" not in log


def test_a_warning_about_an_unreachable_interpreter_names_the_options(tmp_path: Path) -> None:
    """The second application starts with its first request; one line at the start says so."""
    (tmp_path / "ctypes.py").write_text(NO_CTYPES)
    options = ("--processes", "2")
    with mounted(tmp_path, *options, shop=SCHEDULED, wiki=SCHEDULED) as server:
        server.wait_events("run", 4)
        before = {event.probe for event in server.events("run")}
        server.get("/wiki/")
        server.wait_for(
            lambda: any(e.probe == "wiki" for e in server.events("run")), what="wiki runs its task"
        )
        lines = [line for line in server.log_text().splitlines() if "pulse:" in line]

    assert before == {"shop"}
    assert len(lines) == 1
    assert "--single-interpreter or --lazy-apps" in lines[0]
    assert "foreign calls are forbidden here" in lines[0]


@pytest.mark.parametrize(
    ("sites", "options"),
    [(1, ()), (2, ("--single-interpreter",)), (2, ("--lazy-apps",))],
    ids=["one", "single-interpreter", "lazy-apps"],
)
def test_no_warning_is_logged_if_no_other_interpreter_is_needed(
    sites: int, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Examples are one application, one interpreter, and `--lazy-apps`."""
    (tmp_path / "ctypes.py").write_text(NO_CTYPES)
    names = ("shop", "wiki")[:sites]
    texts = dict.fromkeys(names, SCHEDULED)
    with mounted(tmp_path, "--processes", "1", *options, **texts) as server:
        server.wait_for(
            lambda: {event.probe for event in server.events("run")} == set(names),
            what="each application runs its task",
        )

        assert "pulse:" not in server.log_text()


@LAZY
def test_a_warning_about_the_gevent_loop_names_the_option(
    lazy: tuple[str, ...], tmp_path: Path
) -> None:
    """Without the option a request to a second application kills the worker."""
    options = ("--processes", "1", "--gevent", "9", *lazy)
    with mounted(tmp_path, *options, shop=SCHEDULED, wiki=SCHEDULED) as server:
        server.wait_for(
            lambda: {event.probe for event in server.events("run")} == {"shop", "wiki"},
            what="each application runs its task",
        )
        lines = [line for line in server.log_text().splitlines() if "pulse:" in line]

    assert len(lines) == 1
    assert "start uWSGI with --single-interpreter" in lines[0]


def test_no_warning_is_logged_for_the_gevent_loop_with_one_interpreter(tmp_path: Path) -> None:
    """The option that the warning names solves the problem."""
    options = ("--processes", "1", "--gevent", "9", "--single-interpreter")
    with mounted(tmp_path, *options, shop=SCHEDULED, wiki=SCHEDULED) as server:
        server.wait_for(
            lambda: {event.probe for event in server.events("run")} == {"shop", "wiki"},
            what="each application runs its task",
        )

        assert server.get("/wiki/").status == 200
        assert "pulse:" not in server.log_text()
