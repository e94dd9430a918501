"""Starts real server programs, watches them, and ends every process they made.

    with Server([sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "app:app"],
                port=port, folder=tmp_path) as server:
        server.get("/")
        server.signal(SIGHUP)

Each program leads a session of its own, so that each process that it forks is found by the session
id even after its parent has died. Each failure reports what the server had written.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tests.support.measure import measured_by_greenlet
from tests.support.requires_server import require_uwsgi

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
"""The repository: servers that start in other folders find `tests` and `pulse` there."""

BIN = Path(sys.executable).parent
PATIENCE_S = 60.0
"""How long a test waits for what has to come some time. It is no claim about speed: where several
servers start on two cores, one of them needs 10 s to start and as long for what follows."""
READY_S = PATIENCE_S
STOP_S = 10.0
UNMEASURED: dict[str, str | None] = {
    "COVERAGE_PROCESS_CONFIG": None,
    "COVERAGE_PROCESS_START": None,
}
"""For servers that coverage breaks (measured, uWSGI dies of a signal at its exit) or slows down."""

_dice = random.SystemRandom()  # the seeded one gives every xdist worker the same ports


class Answer(NamedTuple):
    """The response of a server."""

    status: int
    text: str


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int
    state: str


def free_port() -> int:
    """Return a loopback port that nobody listens on, outside the range the kernel hands out."""
    for _ in range(200):
        port = _dice.randrange(10_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port in 200 tries")


def wait_until(
    predicate: Callable[[], T],
    timeout: float = PATIENCE_S,
    what: str = "it",
    *,
    log: Callable[[], str] = str,
    every: float = 0.02,
) -> T:
    """Return the first true answer of *predicate*; fail, with the log, when none comes in time."""
    deadline = time.monotonic() + timeout
    while not (answer := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout} s, last was {answer!r}\n{log()}")
        time.sleep(every)
    return answer


def program(name: str) -> str:
    """Return the path of a program that is installed beside this Python."""
    if name == "uwsgi":
        require_uwsgi()
    return str(BIN / name)


def server_environment(*, extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return an environment for servers: this one's, `tests` importable, no pytest in it.

    An entry of None in *extra* is left out.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PULSE_"))}
    kept["PYTHONPATH"] = os.pathsep.join(
        part for part in (str(ROOT), kept.get("PYTHONPATH", "")) if part
    )
    kept["PYTHONUNBUFFERED"] = "1"
    return {k: v for k, v in (kept | dict(extra or {})).items() if v is not None}


class Server:
    """A server program on a loopback port, from its readiness to its end.

    Args:
        command: the program and its arguments.
        port: where it is told to listen; None for a program that listens nowhere.
        folder: its working directory; the output goes to `server-<n>.log` in it.
        environ: entries added to its environment.

    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int | None,
        folder: Path,
        environ: Mapping[str, str | None] | None = None,
    ) -> None:
        self.command = list(command)
        self.port = port
        self.folder = folder
        self.log_path = folder / f"server-{port or _dice.randrange(10**6)}.log"
        self._environ = server_environment(extra=environ)
        if any("gevent" in word for word in self.command):
            self._environ = measured_by_greenlet(self._environ)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if error is not None:
            error.add_note(f"--- {self.log_path.name} ---\n{self.log_text()}")

    @property
    def pid(self) -> int:
        """The process id of the program itself: the master, where there is one."""
        return self._running().pid

    def start(self) -> None:
        """Start the program and return at once."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, timeout: float = READY_S) -> None:
        """Return once somebody listens on the port."""
        if self.port is not None:
            self.wait_for(self._is_listening, timeout, f"{self.command[0]} listens")

    def wait_for(
        self,
        predicate: Callable[[], T],
        timeout: float = PATIENCE_S,
        what: str = "the server did it",
    ) -> T:
        """Return the first true answer of *predicate*; fail with the server's log."""
        return wait_until(predicate, timeout, what, log=self.log_text)

    def workers(self) -> list[int]:
        """Return the living children of the program, oldest first."""
        return sorted(p.pid for p in _processes() if p.parent == self.pid and p.state != "Z")

    def family(self) -> list[int]:
        """Return every living process of the program's session, itself included."""
        return sorted(p.pid for p in _processes() if p.session == self.pid and p.state != "Z")

    def log_text(self) -> str:
        """Return all that the program has written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def signal(self, number: Signals, pid: int | None = None) -> None:
        """Send a signal to the program, or to one process of its family."""
        os.kill(pid or self.pid, number)

    def get(self, path: str = "/", *, timeout: float = PATIENCE_S) -> Answer:
        """Return the answer to a GET request on a connection of its own.

        A server that forks listens before its workers have loaded the application.
        """
        if self.port is None:
            raise AssertionError("this program has no port")
        link = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            link.request("GET", path, headers={"Connection": "close"})
            reply = link.getresponse()
            return Answer(reply.status, reply.read().decode(errors="replace"))
        except (OSError, HTTPException) as error:
            error.add_note(self.log_text())
            raise
        finally:
            link.close()

    def wait_ended(self, timeout: float = STOP_S) -> int:
        """Return the exit status once the program has ended; negative for a signal."""
        process = self._running()
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.command[0]} has not ended within {timeout} s\n{self.log_text()}"
            ) from None

    def stop(self, number: Signals = SIGTERM, *, timeout: float = STOP_S) -> int:
        """Send the signal, wait for the end, and return the exit status."""
        if self._running().poll() is None:
            self.signal(number)
        return self.wait_ended(timeout)

    def close(self) -> None:
        """End whatever of the family still lives: asked first, then killed, one by one."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in self.family():
            self._kill(pid)
        wait_until(lambda: not self.family(), what="the family ends", log=self.log_text)

    def _kill(self, pid: int) -> None:
        try:
            os.kill(pid, SIGKILL)
        except ProcessLookupError:
            return

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise AssertionError(f"{self.command[0]} was not started")
        return self._process

    def _is_listening(self) -> bool:
        process = self._running()
        if process.poll() is not None:
            raise AssertionError(
                f"{self.command[0]} ended with {process.returncode}\n{self.log_text()}"
            )
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def run_program(
    command: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str | None] | None = None,
    text: str = "",
    timeout: float = 30.0,
) -> subprocess.CompletedProcess[str]:
    """Return the ended program, with what it wrote; *text* is its standard input."""
    return subprocess.run(
        list(command),
        cwd=folder,
        env=server_environment(extra=environ),
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def is_alive(pid: int) -> bool:
    """Return whether a process of that id lives; one that is only not reaped yet does not."""
    return any(p.pid == pid and p.state != "Z" for p in _processes())


def is_stopped(pid: int) -> bool:
    """Return whether a process of that id has been stopped by a signal and can go on."""
    return any(p.pid == pid and p.state == "T" for p in _processes())


def _processes() -> list[_Process]:
    found = (_process(entry) for entry in os.scandir("/proc") if entry.name.isdigit())
    return [process for process in found if process is not None]


def _process(entry: os.DirEntry[str]) -> _Process | None:
    try:
        text = Path(entry.path, "stat").read_text()
    except OSError:
        return None
    state, parent, _group, session = text.rpartition(")")[2].split()[:4]
    return _Process(int(entry.name), int(parent), int(session), state)
