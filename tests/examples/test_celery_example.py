"""The example of Celery workers: each of its ini files, with the worker that the file names."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pulse.cli.main import main
from tests.examples.conftest import ROOT, served_copy
from tests.support.redis_servers import RedisServer
from tests.support.servers import Server, program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHOP = "examples/celery/shop.ini"
EXISTING = "examples/celery/existing.ini"
RUN = re.compile(r"(\w+) \S+Z succeeded 200 .*\[pid (\d+)\]")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The URL of a broker, which Celery prefers to that of the ini files."""
    (tmp_path / "broker").mkdir()
    with RedisServer(tmp_path / "broker") as server:
        yield server.url


@contextmanager
def working(folder: Path, command: list[str], broker: str) -> Iterator[Server]:
    """Run a worker beside a site."""
    command = [program(command[0]), *command[1:]]
    environ = {"CELERY_BROKER_URL": broker}
    with Server(command, port=None, folder=folder, environ=environ) as worker:
        yield worker


def executed(server: Server) -> set[str]:
    """Return the tasks of which a process has logged a run that succeeded."""
    return {task for task, _ in RUN.findall(server.log_text())}


@pytest.mark.parametrize("ini", [SHOP, EXISTING])
def test_check_of_the_example_reports_no_problem(
    ini: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tasks, its broker and its store fit the mode."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)

    status = main(["check", ini])

    assert (status, capsys.readouterr().err) == (0, "")


@pytest.mark.server
def test_pulse_worker_executes_the_tasks_of_all_queues(tmp_path: Path, broker: str) -> None:
    """The web server posts them, and executes none itself."""
    command = ["pulse", "worker", SHOP, "--", "-c", "2", "-l", "info"]

    with (
        served_copy(tmp_path, SHOP, "celery", CELERY_BROKER_URL=broker) as site,
        working(tmp_path, command, broker) as worker,
    ):
        worker.wait_for(
            lambda: executed(worker) == {"cleanup", "thumbnails"}, what="a run from each queue"
        )

    assert executed(site) == set()


@pytest.mark.server
def test_celery_application_executes_the_tasks_beside_its_own(tmp_path: Path, broker: str) -> None:
    """A scheduled view sends messages, for which the same worker has a task."""
    command = ["celery", "-A", "examples.celery.tasks", "worker", "-Q", "celery,pulse,slow"]
    command += ["-c", "2", "-l", "info"]

    with (
        served_copy(tmp_path, EXISTING, "celery", CELERY_BROKER_URL=broker),
        working(tmp_path, command, broker) as worker,
    ):
        worker.wait_for(
            lambda: executed(worker) == {"cleanup", "thumbnails", "letters"},
            what="a run of each task",
        )
        worker.wait_for(lambda: "a letter to bob" in worker.log_text(), what="a letter is sent")
