"""The demo as `make demo` starts it: the repository's gunicorn.conf.py, its ini file, its pages."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulse.cli.main import main
from tests.examples.conftest import ROOT, copy_examples, served_copy
from tests.support.requires_server import missing
from tests.support.servers import Server, free_port, is_alive
from tests.support.variants import long_variant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

INI = "examples/demo/demo.ini"
WITH_CELERY = "examples/demo/celery.ini"
HINT = re.compile(r"demo: kill (\d+) ends a worker; another one takes over its tasks")
RUN = re.compile(r"pulse: cleanup \S+Z succeeded 200 .*\[pid (\d+)\]")
CELERY_RUN = re.compile(r"ForkPoolWorker-\d+\] cleanup \S+Z succeeded 200")


@pytest.mark.parametrize("ini", [INI, WITH_CELERY])
def test_check_of_the_demo_reports_no_problem(
    ini: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its actions too are answered by views."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)
    status = main(["check", ini])
    assert (status, capsys.readouterr().err) == (0, "")


@pytest.fixture
def demo(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running copy of the demo in the mode that the parameter names."""
    with served_copy(tmp_path, INI, request.param) as server:
        yield server


@pytest.mark.server
@pytest.mark.parametrize("demo", ["gevent", long_variant("threading"), "processing"], indirect=True)
def test_first_minute_shows_what_pulse_does(demo: Server) -> None:
    """A failure, a skipped fire time and a retry are on the pages; a killed worker is replaced."""
    page = ""

    def shows_it_all() -> bool:
        nonlocal page
        page = demo.get("/_pulse/runs").text
        return all(word in page for word in ("state failed", "state skipped", "attempt 2"))

    demo.wait_for(shows_it_all, what="a failure, a skipped fire time, and a second attempt")

    def says_what_is_wrong() -> bool:  # within a second: pages are made of what was read last
        nonlocal page
        page = demo.get("/_pulse/").text
        headline = page.partition('id="headline"')[2].partition("</section>")[0]
        return "1 of 6 tasks needs a look." in headline and "charge has not suc" in headline

    demo.wait_for(says_what_is_wrong, what="the first line names the task that fails")
    assert "At 07:00 on Monday through Friday" in page
    assert demo.get("/chores/cleanup").status == 403

    (pid,) = HINT.findall(demo.log_text())
    os.kill(int(pid), signal.SIGKILL)
    read = len(demo.log_text())

    def another_goes_on() -> bool:
        return bool(set(RUN.findall(demo.log_text()[read:])) - {pid})

    demo.wait_for(another_goes_on, what="another worker runs the cleanup")


@pytest.fixture
def with_celery(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that `make demo MODE=celery` runs."""
    monkeypatch.syspath_prepend(ROOT)
    from examples.demo import with_celery

    monkeypatch.setattr(with_celery, "FOLDERS", ())
    return with_celery


def test_demo_with_celery_without_a_broker_names_the_packages(
    with_celery: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is started."""
    monkeypatch.setenv("PATH", "")
    status = with_celery.main()
    error = capsys.readouterr().err
    assert status == 1
    assert "apt-get install rabbitmq-server, or apt-get install redis-server" in error


@pytest.mark.parametrize(
    ("programs", "name"),
    [(("epmd", "rabbitmq-server", "redis-server"), "RabbitMQ"), (("redis-server",), "Redis")],
)
def test_demo_with_celery_takes_the_broker_that_is_installed(
    programs: tuple[str, ...],
    name: str,
    tmp_path: Path,
    with_celery: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RabbitMQ where both are there."""
    for program in programs:
        (tmp_path / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert with_celery.find_broker(tmp_path).name == name


@pytest.fixture
def celery_demo(tmp_path: Path) -> Iterator[Server]:
    """A running copy of the demo with a broker and a Celery worker, whose TMPDIR is its own."""
    if not any(shutil.which(name) for name in ("rabbitmq-server", "redis-server")):
        missing("there is no broker; Debian's packages are rabbitmq-server and redis-server")
    copy_examples(tmp_path)
    (tmp_path / "tmp").mkdir()
    port = free_port()
    environ = {"PORT": str(port), "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-m", "examples.demo.with_celery"]
    with Server(command, port=port, folder=tmp_path, environ=environ) as server:
        yield server


def processes_of(folder: Path) -> list[int]:
    """Return the living processes whose TMPDIR is in *folder*, also those of a broker's helpers."""
    mark = f"TMPDIR={folder}/".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes() and is_alive(int(entry.name)):
                found.append(int(entry.name))
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.mark.server
def test_demo_with_celery_ends_all_its_processes_at_control_c(
    celery_demo: Server, tmp_path: Path
) -> None:
    """A terminal sends Ctrl-C to the group of the demo."""

    def runs() -> bool:
        return CELERY_RUN.search(celery_demo.log_text()) is not None

    celery_demo.wait_for(runs, what="a run of a Celery worker")
    page = celery_demo.get("/_pulse/runs").text
    before = processes_of(tmp_path)

    os.killpg(celery_demo.pid, signal.SIGINT)

    status, log = celery_demo.wait_ended(60), celery_demo.log_text()
    left = [*processes_of(tmp_path), *(tmp_path / "tmp").iterdir()]
    assert (status, "Traceback" in log, left) == (0, False, []), log
    assert (len(before) > 8, "state succeeded" in page) == (True, True)
