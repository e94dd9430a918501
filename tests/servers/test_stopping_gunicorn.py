"""gunicorn: a stopping worker claims nothing more and drains within its limit."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.server_logs import gunicorn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.server_logs import Witnessed

pytestmark = pytest.mark.server

CLASSES = ["sync", "gthread", "gevent", "gevent_pywsgi"]
PRELOADS = pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["late", "preload"])


def one_thread() -> ThreadPoolExecutor:
    """Return a thread in which a request can wait for its answer."""
    return ThreadPoolExecutor(1)


def limit_of(server: Witnessed) -> float:
    """Return the limit of the first shutdown."""
    return float(server.wait_events("shutdown")[0].rest[0])


@pytest.mark.parametrize(
    ("number", "kind", "options"),
    [
        *((signal.SIGTERM, kind, ()) for kind in CLASSES),
        *((signal.SIGTERM, kind, ("--preload",)) for kind in ("sync", "gevent")),
        *((number, "gthread", ()) for number in (signal.SIGINT, signal.SIGQUIT)),
        *((number, "gevent", ()) for number in (signal.SIGINT, signal.SIGQUIT)),
    ],
)
def test_a_stop_drains_each_worker(
    number: signal.Signals, kind: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    """After TERM, INT or QUIT both workers finish their work, and no process is left."""
    environ = {"PROBE_NAP": "0.5"}
    with gunicorn(tmp_path, "-k", kind, "-w", "2", *options, environ=environ) as server:
        started = server.wait_started(2)
        server.wait_workers(2)
        status = server.stop(number)
        family = server.family()

    assert (status, family) == (0, [])
    assert sorted(server.pids("shut_down")) == sorted(started)
    assert "Traceback" not in server.log_text()


@pytest.mark.parametrize("kind", CLASSES)
def test_a_worker_stops_claiming_after_term(kind: str, tmp_path: Path) -> None:
    """It stops at once, while a request is still in progress."""
    environ = {"PROBE_ASK": "1"}
    with gunicorn(tmp_path, "-k", kind, "-w", "1", environ=environ) as server, one_thread() as pool:
        worker = server.wait_started(1)[0]
        answer = pool.submit(server.get, "/?until=released")
        server.wait_events("requested")
        server.signal(signal.SIGTERM, worker)
        answers = server.wait_events("accepts_work", 2)
        is_answered = answer.done()
        (tmp_path / "released").touch()
        server.wait_started(2)

    assert [event.rest for event in answers if event.pid == worker] == [("True",), ("False",)]
    assert (is_answered, answer.result().status) == (False, 200)


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_recycled_worker_drains(kind: str, tmp_path: Path) -> None:
    """At max_requests the worker stops claiming and finishes its work before it is replaced."""
    environ = {"PROBE_NAP": "0.5", "PROBE_ASK": "1"}
    options = ("-k", kind, "-w", "1", "--max-requests", "1")
    with gunicorn(tmp_path, *options, environ=environ) as server:
        server.wait_started(1)
        server.wait_events("accepts_work")
        server.get("/?nap=0.3")
        server.wait_started(2)
        seen = [(e.name, *e.rest) for e in server.events() if e.pid == server.pids("start")[0]]

    assert seen.index(("accepts_work", "False")) < seen.index(("shut_down",))
    assert server.pids("start")[0] == server.pids("shut_down")[0]


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        (("--graceful-timeout", "9"), 7.5, 9.0),
        (("--graceful-timeout", "60", "--timeout", "20"), 9.0, 20.0),
    ],
    ids=["graceful", "timeout"],
)
@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_the_limit_of_the_shutdown_is_the_lesser_of_both_timeouts(
    kind: str, options: tuple[str, ...], least: float, most: float, tmp_path: Path
) -> None:
    """The drain may take as long as the lesser of the two timeouts."""
    environ = {"PROBE_ASK": "1"}
    with gunicorn(tmp_path, "-k", kind, "-w", "1", *options, environ=environ) as server:
        server.wait_started(1)
        server.wait_events("accepts_work")
        server.stop()

        assert least <= limit_of(server) <= most


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_drain_ends_before_the_master_kills(kind: str, tmp_path: Path) -> None:
    """With endless work the drain is over before graceful_timeout, and the shutdown is complete."""
    environ = {"PROBE_NAP": "60", "PROBE_ASK": "1"}
    options = ("-k", kind, "-w", "1", "--graceful-timeout", "3")
    with gunicorn(tmp_path, *options, environ=environ) as server:
        started = server.wait_started(1)
        server.wait_events("accepts_work")
        server.stop()

    assert server.pids("shut_down") == started
    assert "Perhaps out of memory" not in server.log_text()


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_reload_does_not_abort_a_drain(kind: str, tmp_path: Path) -> None:
    """After HUP the drain is over before the master considers the old worker dead."""
    environ = {"PROBE_NAP": "60", "PROBE_ASK": "1"}
    options = ("-k", kind, "-w", "1", "--timeout", "4", "--graceful-timeout", "2", "--preload")
    with gunicorn(tmp_path, *options, environ=environ) as server:
        first = server.wait_started(1)
        server.wait_events("accepts_work")
        server.signal(signal.SIGHUP)
        server.wait_workers(1, gone=first)

        assert server.pids("shut_down") == first
        assert "TIMEOUT" not in server.log_text()
        server.stop(signal.SIGQUIT)


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_second_signal_cuts_the_drain_short(kind: str, tmp_path: Path) -> None:
    """INT after TERM ends a long drain at once, and the shutdown is complete."""
    environ = {"PROBE_NAP": "20"}
    with gunicorn(tmp_path, "-k", kind, "-w", "1", environ=environ) as server:
        started = server.wait_started(1)
        server.signal(signal.SIGTERM)
        server.wait_events("shutdown")
        status = server.stop(signal.SIGINT, timeout=4.0)

    assert status == 0
    assert [e.rest for e in server.events("shutdown")][-1] == ("1.0",)
    assert server.pids("shut_down") == started
    assert "Traceback" not in server.log_text()


def test_an_aborted_worker_has_no_time_left(tmp_path: Path) -> None:
    """A worker that the master considers dead stops claiming and ends without a drain."""
    environ = {"PROBE_NAP": "20", "PROBE_ASK": "1"}
    with gunicorn(tmp_path, "-w", "1", "--timeout", "1", environ=environ) as server:
        started = server.wait_started(1)
        server.get("/?nap=9")
        server.wait_events("shut_down")

        assert limit_of(server) == 0.0
        assert server.pids("shut_down")[0] == started[0]


def test_a_worker_whose_master_died_drains(tmp_path: Path) -> None:
    """After SIGKILL of the master its worker finishes its work, then exits."""
    with gunicorn(tmp_path, "-w", "1", "-k", "gevent", environ={"PROBE_NAP": "0.3"}) as server:
        started = server.wait_started(1)
        server.signal(signal.SIGKILL)
        server.wait_ended()
        server.wait_for(lambda: not server.family(), what="the worker ends")

    assert server.pids("shut_down") == started


OWN_HOOKS = """
from tests.support import probe
def post_worker_init(worker): probe.write_event("own", "post_worker_init")
def worker_exit(server, worker): probe.write_event("own", "worker_exit")
def worker_int(worker): probe.write_event("own", "worker_int")
"""


@PRELOADS
def test_the_users_hooks_run_too(preload: tuple[str, ...], tmp_path: Path) -> None:
    """The hooks of gunicorn.conf.py run before the start and after the shutdown."""
    (tmp_path / "gunicorn.conf.py").write_text(OWN_HOOKS)
    with gunicorn(tmp_path, "-w", "1", *preload) as server:
        server.wait_started(1)
        server.stop(signal.SIGINT)

    events = [e.probe if e.name == "own" else e.name for e in server.events()]
    assert [e for e in events if e not in {"built", "loaded", "stop_claiming", "worker_int"}] == [
        "post_worker_init",
        "start",
        "shutdown",
        "shut_down",
        "worker_exit",
    ]
    assert events.index("stop_claiming") < events.index("worker_int")


PULSE_HOOKS = "from pulse.gunicorn import post_worker_init, worker_abort, worker_exit, worker_int\n"


@PRELOADS
@pytest.mark.parametrize("start", ["auto", "off"])
def test_hooks_of_pulse_in_the_configuration_start_and_shut_down_once(
    start: str, preload: tuple[str, ...], tmp_path: Path
) -> None:
    """With `start = off` only the hooks of `pulse.gunicorn` do that; `auto` does not repeat it."""
    (tmp_path / "gunicorn.conf.py").write_text(PULSE_HOOKS)
    environ = {"PROBE_START": start}
    with gunicorn(tmp_path, "-w", "2", *preload, environ=environ) as server:
        started = server.wait_started(2)
        server.wait_workers(2)
        server.stop(signal.SIGINT)

    assert sorted(server.pids("start")) == sorted(set(started) - {server.pid})
    assert sorted(server.pids("shut_down")) == sorted(started)
