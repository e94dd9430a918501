"""Servers that serve the probe, and what the probe wrote."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tests.support.servers import PATIENCE_S, UNMEASURED, Server, free_port, program
from tests.support.uwsgi_status import status_options, wait_accepting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Event(NamedTuple):
    """One line of the probe."""

    name: str
    pid: int
    parent: int
    probe: str
    rest: tuple[str, ...]


class Witnessed(Server):
    """A server program that serves the probe."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int | None,
        folder: Path,
        environ: Mapping[str, str | None] | None = None,
    ) -> None:
        self.events_path = folder / "events.txt"
        told = {"PROBE_FILE": str(self.events_path)} | dict(environ or {})
        super().__init__(command, port=port, folder=folder, environ=told)

    def events(self, name: str | None = None) -> list[Event]:
        """Return the events of the probe in order: all, or those of one name."""
        return [e for e in read_events(self.events_path) if name is None or e.name == name]

    def pids(self, name: str) -> list[int]:
        """Return the processes that wrote an event of that name, in order, with repetitions."""
        return [event.pid for event in self.events(name)]

    def wait_started(self, count: int) -> list[int]:
        """Wait for *count* starts, and return the processes."""
        self.wait_for(lambda: len(self.pids("start")) >= count, what=f"{count} started")
        return self.pids("start")

    def wait_answered(self, pids: Sequence[int]) -> set[int]:
        """Return the processes that answered, once each of these uWSGI workers did and is idle."""
        seen: set[int] = set()

        def all_answered() -> bool:
            seen.add(int(self.get().text))
            return seen.issuperset(pids)

        self.wait_for(all_answered, what="each worker answers")
        wait_accepting(self, len(pids))
        return seen

    def wait_events(self, name: str, count: int = 1, timeout: float = PATIENCE_S) -> list[Event]:
        """Wait for *count* events of one name, and return them."""
        self.wait_for(
            lambda: len(self.events(name)) >= count, timeout, what=f"{count} times {name}"
        )
        return self.events(name)

    def wait_workers(self, count: int, *, gone: Sequence[int] = ()) -> list[int]:
        """Wait until so many workers run and none of *gone* is left; return them."""
        self.wait_for(
            lambda: len(self.workers()) == count and not set(gone) & set(self.workers()),
            what=f"{count} workers",
        )
        return self.workers()


def read_events(path: Path) -> list[Event]:
    """Return the probe's lines."""
    lines = path.read_text().splitlines() if path.exists() else []
    fields = (line.split() for line in lines)
    return [Event(f[0], int(f[1]), int(f[2]), f[3], tuple(f[4:])) for f in fields]


def twice(pids: Sequence[int]) -> list[int]:
    """Return the values that occur more than once."""
    return [pid for pid, count in Counter(pids).items() if count > 1]


def gunicorn(
    folder: Path,
    *options: str,
    environ: Mapping[str, str | None] | None = None,
    app: Sequence[str] = ("tests.support.probe_app:app",),
) -> Witnessed:
    """Return a gunicorn, not yet started, that serves the probe."""
    port = free_port()
    command = [program("gunicorn"), "-b", f"127.0.0.1:{port}", "--no-control-socket"]
    return Witnessed([*command, *options, *app], port=port, folder=folder, environ=environ)


def uwsgi(
    folder: Path,
    *options: str,
    environ: Mapping[str, str | None] | None = None,
    load: Sequence[str] = ("--module", "tests.support.probe_app:app"),
) -> Witnessed:
    """Return a uWSGI, not yet started, that serves the probe."""
    port = free_port()
    command = [program("uwsgi"), "--http-socket", f"127.0.0.1:{port}", *load]
    command += ["--die-on-term", "--enable-threads", "--need-app"]
    if "--master" in options:
        command += status_options()
    told = UNMEASURED | dict(environ or {})
    return Witnessed([*command, *options], port=port, folder=folder, environ=told)


def write_ini(folder: Path, *server: str) -> Path:
    """Return the path of an ini file whose application is the probe, with that server section."""
    path = folder / "probe.ini"
    lines = [
        "[app:main]",
        "use = call:tests.support.probe:paste_app",
        "",
        "[server:main]",
        *server,
        "",
    ]
    path.write_text("\n".join(lines))
    return path
