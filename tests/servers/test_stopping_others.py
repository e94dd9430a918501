"""uWSGI drains at its exit; simple servers drain on Ctrl-C, and die at once on TERM."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.support.server_logs import Witnessed, uwsgi
from tests.support.servers import free_port, program

pytestmark = pytest.mark.server

PYWSGI = (
    "from gevent import monkey; monkey.patch_all()\n"
    "from gevent.pywsgi import WSGIServer\n"
    "from tests.support.probe_app import app\n"
    "try:\n"
    "    WSGIServer(('127.0.0.1', {port}), app).serve_forever()\n"
    "except KeyboardInterrupt:\n"
    "    pass\n"
)


def waitress(folder: Path, environ: dict[str, str]) -> Witnessed:
    """Return a waitress-serve, not yet started, that serves the probe."""
    port = free_port()
    command = [
        program("waitress-serve"),
        "--listen",
        f"127.0.0.1:{port}",
        "tests.support.probe_app:app",
    ]
    return Witnessed(command, port=port, folder=folder, environ=environ)


def pywsgi(folder: Path, environ: dict[str, str]) -> Witnessed:
    """Return a program that serves with `gevent.pywsgi`, not yet started."""
    port = free_port()
    command = [sys.executable, "-c", PYWSGI.replace("{port}", str(port))]
    return Witnessed(command, port=port, folder=folder, environ=environ)


def visit(server: Witnessed) -> None:
    """Request once, and wait until the server is idle again: it has closed the connection.

    The greenlet of gevent that closes a connection prints a traceback if Ctrl-C interrupts it.
    """
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(1)
        inode = inode_at_server(connection)
    link = f"socket:[{inode}]"
    server.wait_for(lambda: link not in links_of(server.pid), what="it has closed")


def inode_at_server(connection: socket.socket) -> str:
    """Return the inode of the server's end of a connection on the loopback interface."""
    ends = [f"{port:04X}" for port in (connection.getpeername()[1], connection.getsockname()[1])]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if [fields[1][-4:], fields[2][-4:]] == ends:
            return fields[9]
    raise AssertionError("the connection is not listed")


def links_of(pid: int) -> set[str]:
    """Return what the file descriptors of a process are."""
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.add(str(file.readlink()))
    return found


def wait_loaded(server: Witnessed, times: int) -> None:
    """Wait until it is loaded: a signal that interrupts an import may hang uWSGI."""
    server.wait_for(lambda: server.log_text().count("WSGI app 0") >= times, what="it is loaded")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["fork", "lazy-apps"])
def test_uwsgi_drains_each_worker(
    lazy: tuple[str, ...], number: signal.Signals, tmp_path: Path
) -> None:
    """Each worker finishes its work at its exit, within uWSGI's mercy."""
    options = ("--master", "--processes", "2", "--worker-reload-mercy", "9", *lazy)
    with uwsgi(tmp_path, *options, environ={"PROBE_NAP": "0.3"}) as server:
        started = server.wait_started(2)
        wait_loaded(server, 2 if lazy else 1)
        server.wait_answered(started)
        server.stop(number)

    assert sorted(server.pids("shut_down")) == sorted(started)
    assert {event.rest for event in server.events("shutdown")} == {("9.0",)}
    assert "Traceback" not in server.log_text()


def test_the_limit_under_uwsgi_is_a_minute_by_default(tmp_path: Path) -> None:
    """Without a mercy option the limit is uWSGI's default."""
    with uwsgi(tmp_path, "--master", "--processes", "1") as server:
        server.wait_answered(server.wait_started(1))
        server.stop()

    assert [event.rest for event in server.events("shutdown")] == [("60.0",)]


@pytest.mark.parametrize("serve", [waitress, pywsgi])
def test_ctrl_c_drains(serve: object, tmp_path: Path) -> None:
    """After Ctrl-C the work finishes before the interpreter exits; no limit is known."""
    with serve(tmp_path, {"PROBE_NAP": "0.3"}) as server:
        visit(server)
        status = server.stop(signal.SIGINT)

    assert status == 0
    assert [event.rest for event in server.events("shutdown")] == [("None",)]
    assert len(server.events("shut_down")) == 1
    assert "Traceback" not in server.log_text()


@pytest.mark.parametrize("serve", [waitress, pywsgi])
def test_a_second_ctrl_c_ends_the_drain(serve: object, tmp_path: Path) -> None:
    """After the second Ctrl-C the process exits at once, without a traceback."""
    with serve(tmp_path, {"PROBE_NAP": "20"}) as server:
        visit(server)
        server.signal(signal.SIGINT)
        server.wait_events("shutdown")
        server.stop(signal.SIGINT, timeout=4.0)

    assert [event.rest for event in server.events("shutdown")] == [("None",), ("1.0",)]
    assert len(server.events("shut_down")) == 1
    assert "Traceback" not in server.log_text()


def test_term_ends_waitress_at_once(tmp_path: Path) -> None:
    """Neither waitress nor pulse sets a handler for TERM; leases expire instead."""
    with waitress(tmp_path, {"PROBE_NAP": "20"}) as server:
        server.wait_started(1)
        status = server.stop(signal.SIGTERM, timeout=2.0)

    assert status in {-signal.SIGTERM, 0}
    assert server.events("shutdown") == []
