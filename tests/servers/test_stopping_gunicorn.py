"""gunicorn: a worker that is stopped claims nothing more, drains within its limit, and is quick."""

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
    """Return the limit that the first end was given."""
    return float(server.wait_events("end")[0].rest[0])


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
    """TERM, INT and QUIT to the master let both workers end their work, and nothing outlives it."""
    environ = {"PROBE_NAP": "0.5"}
    with gunicorn(tmp_path, "-k", kind, "-w", "2", *options, environ=environ) as server:
        begun = server.wait_begun(2)
        server.wait_workers(2)
        status = server.stop(number)
        family = server.family()

    assert (status, family) == (0, [])
    assert sorted(server.pids("ended")) == sorted(begun)
    assert "Traceback" not in server.log_text()


@pytest.mark.parametrize("kind", CLASSES)
def test_a_worker_stops_claiming_when_it_is_told_to(kind: str, tmp_path: Path) -> None:
    """While a request still runs after TERM, the worker already claims nothing."""
    environ = {"PROBE_ASK": "1"}
    with gunicorn(tmp_path, "-k", kind, "-w", "1", environ=environ) as server, one_thread() as pool:
        worker = server.wait_begun(1)[0]
        answer = pool.submit(server.get, "/?until=released")
        server.wait_events("requested")
        server.signal(signal.SIGTERM, worker)
        told = server.wait_events("serving", 2)
        is_answered = answer.done()
        (tmp_path / "released").touch()
        server.wait_begun(2)

    assert [event.rest for event in told if event.pid == worker] == [("True",), ("False",)]
    assert (is_answered, answer.result().status) == (False, 200)


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_recycled_worker_drains(kind: str, tmp_path: Path) -> None:
    """At max_requests the worker goes quiet at once and ends its work before it is replaced."""
    environ = {"PROBE_NAP": "0.5", "PROBE_ASK": "1"}
    options = ("-k", kind, "-w", "1", "--max-requests", "1")
    with gunicorn(tmp_path, *options, environ=environ) as server:
        server.wait_begun(1)
        server.wait_events("serving")
        server.get("/?nap=0.3")
        server.wait_begun(2)
        seen = [(e.name, *e.rest) for e in server.events() if e.pid == server.pids("begin")[0]]

    assert seen.index(("serving", "False")) < seen.index(("ended",))
    assert server.pids("begin")[0] == server.pids("ended")[0]


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        (("--graceful-timeout", "9"), 7.5, 9.0),
        (("--graceful-timeout", "60", "--timeout", "20"), 9.0, 20.0),
    ],
    ids=["graceful", "timeout"],
)
@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_the_limit_is_what_gunicorn_leaves(
    kind: str, options: tuple[str, ...], least: float, most: float, tmp_path: Path
) -> None:
    """The drain may take as long as the lesser of the two timeouts allows."""
    environ = {"PROBE_ASK": "1"}
    with gunicorn(tmp_path, "-k", kind, "-w", "1", *options, environ=environ) as server:
        server.wait_begun(1)
        server.wait_events("serving")
        server.stop()

        assert least <= limit_of(server) <= most


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_drain_ends_before_the_master_kills(kind: str, tmp_path: Path) -> None:
    """With endless work the drain is over, and said to be, before graceful_timeout."""
    environ = {"PROBE_NAP": "60", "PROBE_ASK": "1"}
    options = ("-k", kind, "-w", "1", "--graceful-timeout", "3")
    with gunicorn(tmp_path, *options, environ=environ) as server:
        begun = server.wait_begun(1)
        server.wait_events("serving")
        server.stop()

    assert server.pids("ended") == begun
    assert "Perhaps out of memory" not in server.log_text()


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_reload_does_not_abort_a_drain(kind: str, tmp_path: Path) -> None:
    """After HUP the drain is over before the master takes the old worker for dead."""
    environ = {"PROBE_NAP": "60", "PROBE_ASK": "1"}
    options = ("-k", kind, "-w", "1", "--timeout", "4", "--graceful-timeout", "2", "--preload")
    with gunicorn(tmp_path, *options, environ=environ) as server:
        first = server.wait_begun(1)
        server.wait_events("serving")
        server.signal(signal.SIGHUP)
        server.wait_workers(1, gone=first)

        assert server.pids("ended") == first
        assert "TIMEOUT" not in server.log_text()
        server.stop(signal.SIGQUIT)


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_second_signal_cuts_the_drain_short(kind: str, tmp_path: Path) -> None:
    """INT after TERM ends a long drain at once, yet in order."""
    environ = {"PROBE_NAP": "20"}
    with gunicorn(tmp_path, "-k", kind, "-w", "1", environ=environ) as server:
        begun = server.wait_begun(1)
        server.signal(signal.SIGTERM)
        server.wait_events("end")
        status = server.stop(signal.SIGINT, timeout=4.0)

    assert status == 0
    assert [e.rest for e in server.events("end")][-1] == ("1.0",)
    assert server.pids("ended") == begun
    assert "Traceback" not in server.log_text()


def test_an_aborted_worker_has_no_time_left(tmp_path: Path) -> None:
    """A worker that the master takes for dead goes quiet and ends without a drain."""
    environ = {"PROBE_NAP": "20", "PROBE_ASK": "1"}
    with gunicorn(tmp_path, "-w", "1", "--timeout", "1", environ=environ) as server:
        begun = server.wait_begun(1)
        server.get("/?nap=9")
        server.wait_events("ended")

        assert limit_of(server) == 0.0
        assert server.pids("ended")[0] == begun[0]


def test_a_worker_whose_master_died_drains(tmp_path: Path) -> None:
    """After a kill -9 of the master its worker ends its work and then itself."""
    with gunicorn(tmp_path, "-w", "1", "-k", "gevent", environ={"PROBE_NAP": "0.3"}) as server:
        begun = server.wait_begun(1)
        server.signal(signal.SIGKILL)
        server.wait_ended()
        server.wait_for(lambda: not server.family(), what="the worker ends")

    assert server.pids("ended") == begun


OWN_HOOKS = """
from tests.support import probe
def post_worker_init(worker): probe.write_event("own", "post_worker_init")
def worker_exit(server, worker): probe.write_event("own", "worker_exit")
def worker_int(worker): probe.write_event("own", "worker_int")
"""


@PRELOADS
def test_the_users_own_hooks_still_run(preload: tuple[str, ...], tmp_path: Path) -> None:
    """The hooks of gunicorn.conf.py run too: before the begin, and after the end."""
    (tmp_path / "gunicorn.conf.py").write_text(OWN_HOOKS)
    with gunicorn(tmp_path, "-w", "1", *preload) as server:
        server.wait_begun(1)
        server.stop(signal.SIGINT)

    events = [e.probe if e.name == "own" else e.name for e in server.events()]
    assert [e for e in events if e not in {"built", "loaded", "quiet", "worker_int"}] == [
        "post_worker_init",
        "begin",
        "end",
        "ended",
        "worker_exit",
    ]
    assert events.index("quiet") < events.index("worker_int")


PULSE_HOOKS = "from pulse.gunicorn import post_worker_init, worker_abort, worker_exit, worker_int\n"


@PRELOADS
@pytest.mark.parametrize("start", ["auto", "off"])
def test_pulses_hooks_in_the_configuration_begin_and_end_once(
    start: str, preload: tuple[str, ...], tmp_path: Path
) -> None:
    """The hooks of `pulse.gunicorn` do the same, with `start = off` alone, with `auto` as well."""
    (tmp_path / "gunicorn.conf.py").write_text(PULSE_HOOKS)
    environ = {"PROBE_START": start}
    with gunicorn(tmp_path, "-w", "2", *preload, environ=environ) as server:
        begun = server.wait_begun(2)
        server.wait_workers(2)
        server.stop(signal.SIGINT)

    assert sorted(server.pids("begin")) == sorted(set(begun) - {server.pid})
    assert sorted(server.pids("ended")) == sorted(begun)
