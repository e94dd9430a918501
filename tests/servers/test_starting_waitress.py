"""waitress: pulse starts before any request under `waitress-serve` and `pserve`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.server_logs import Witnessed, write_ini
from tests.support.servers import free_port, program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.server


@pytest.mark.parametrize(
    "command",
    [[program("waitress-serve")], [sys.executable, "-m", "waitress"]],
    ids=["program", "module"],
)
def test_waitress_serve_starts_pulse_before_any_request(command: list[str], tmp_path: Path) -> None:
    """The service starts without a request, and requests start nothing more."""
    port = free_port()
    options = ["--listen", f"127.0.0.1:{port}", "tests.support.probe_app:app"]
    with Witnessed([*command, *options], port=port, folder=tmp_path) as server:
        started = server.wait_started(1)
        server.get()

        assert started == server.pids("start") == [server.pid]


def test_pulse_starts_in_the_application_of_a_factory(tmp_path: Path) -> None:
    """`waitress-serve --call` serves the application that the factory returns."""
    port = free_port()
    (tmp_path / "factory.py").write_text(
        "from tests.support.probe import hello, wrap\nmake = lambda: wrap(hello)\n"
    )
    options = ["--listen", f"127.0.0.1:{port}", "--call", "factory:make"]
    with Witnessed([program("waitress-serve"), *options], port=port, folder=tmp_path) as server:
        assert server.wait_started(1) == [server.pid]


def test_nothing_is_claimed_until_the_module_is_loaded(tmp_path: Path) -> None:
    """While the module that built the middleware is still loading, nothing is served."""
    port = free_port()
    (tmp_path / "slow_app.py").write_text(
        "import time\n"
        "from tests.support import probe\n"
        "from pathlib import Path\n"
        "app = probe.wrap(probe.hello)\n"
        "while 'accepts_work' not in Path('events.txt').read_text():\n"
        "    time.sleep(0.02)\n"
        "probe.write_event('loaded', 'module')\n"
    )
    options = ["--listen", f"127.0.0.1:{port}", "slow_app:app"]
    command = [program("waitress-serve"), *options]
    environ = {"PROBE_ASK": "1"}
    with Witnessed(command, port=port, folder=tmp_path, environ=environ) as server:
        server.wait_events("accepts_work", 2)

    seen = [(e.name, *e.rest) for e in server.events() if e.name in {"accepts_work", "loaded"}]
    assert seen[:3] == [("accepts_work", "False"), ("loaded",), ("accepts_work", "True")]


@pytest.mark.parametrize("reload", [(), ("--reload",)], ids=["plain", "reload"])
def test_pserve_starts_pulse_before_any_request(reload: tuple[str, ...], tmp_path: Path) -> None:
    """It starts in the process that serves, not in a reloader's parent."""
    port = free_port()
    ini = write_ini(tmp_path, "use = egg:waitress", f"listen = 127.0.0.1:{port}")
    with Witnessed([program("pserve"), str(ini), *reload], port=port, folder=tmp_path) as server:
        started = server.wait_started(1)
        served = int(server.get().text)

        assert started == server.pids("start") == [served]


def test_pserve_with_another_server_starts_pulse_at_the_first_request(tmp_path: Path) -> None:
    """The server wsgiref is not detected under `pserve`."""
    port = free_port()
    ini = write_ini(tmp_path, "use = egg:pyramid#wsgiref", "host = 127.0.0.1", f"port = {port}")
    with Witnessed([program("pserve"), str(ini)], port=port, folder=tmp_path) as server:
        before = server.pids("start")
        server.get()

        assert (before, server.pids("start")) == ([], [server.pid])
