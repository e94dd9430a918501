"""waitress: its own program and `pserve` begin before any request, once the app is loaded."""

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
def test_its_program_begins_before_any_request(command: list[str], tmp_path: Path) -> None:
    """`waitress-serve` begins without a request, and requests begin nothing more."""
    port = free_port()
    options = ["--listen", f"127.0.0.1:{port}", "tests.support.probe_app:app"]
    with Witnessed([*command, *options], port=port, folder=tmp_path) as server:
        begun = server.wait_begun(1)
        server.get()

        assert begun == server.pids("begin") == [server.pid]


def test_a_factory_is_called_and_begins(tmp_path: Path) -> None:
    """`waitress-serve --call` begins the application that the factory returns."""
    port = free_port()
    (tmp_path / "factory.py").write_text(
        "from tests.support.probe import hello, wrap\nmake = lambda: wrap(hello)\n"
    )
    options = ["--listen", f"127.0.0.1:{port}", "--call", "factory:make"]
    with Witnessed([program("waitress-serve"), *options], port=port, folder=tmp_path) as server:
        assert server.wait_begun(1) == [server.pid]


def test_nothing_is_claimed_until_the_module_is_loaded(tmp_path: Path) -> None:
    """While the module that built the middleware goes on loading, it is not yet serving."""
    port = free_port()
    (tmp_path / "slow_app.py").write_text(
        "import time\n"
        "from tests.support import probe\n"
        "from pathlib import Path\n"
        "app = probe.wrap(probe.hello)\n"
        "while 'serving' not in Path('events.txt').read_text():\n"
        "    time.sleep(0.02)\n"
        "probe.write_event('loaded', 'module')\n"
    )
    options = ["--listen", f"127.0.0.1:{port}", "slow_app:app"]
    command = [program("waitress-serve"), *options]
    environ = {"PROBE_ASK": "1"}
    with Witnessed(command, port=port, folder=tmp_path, environ=environ) as server:
        server.wait_events("serving", 2)

    told = [(e.name, *e.rest) for e in server.events() if e.name in {"serving", "loaded"}]
    assert told[:3] == [("serving", "False"), ("loaded",), ("serving", "True")]


@pytest.mark.parametrize("reload", [(), ("--reload",)], ids=["plain", "reload"])
def test_pserve_begins_before_any_request(reload: tuple[str, ...], tmp_path: Path) -> None:
    """`pserve` with egg:waitress begins the process that serves, not a reloader's parent."""
    port = free_port()
    ini = write_ini(tmp_path, "use = egg:waitress", f"listen = 127.0.0.1:{port}")
    with Witnessed([program("pserve"), str(ini), *reload], port=port, folder=tmp_path) as server:
        begun = server.wait_begun(1)
        served = int(server.get().text)

        assert begun == server.pids("begin") == [served]


def test_pserve_with_another_server_begins_at_the_first_request(tmp_path: Path) -> None:
    """`pserve` with wsgiref is not known to serve until it does."""
    port = free_port()
    ini = write_ini(tmp_path, "use = egg:pyramid#wsgiref", "host = 127.0.0.1", f"port = {port}")
    with Witnessed([program("pserve"), str(ini)], port=port, folder=tmp_path) as server:
        before = server.pids("begin")
        server.get()

        assert (before, server.pids("begin")) == ([], [server.pid])
