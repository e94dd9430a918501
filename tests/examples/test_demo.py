"""The demo as `make demo` starts it: the repository's gunicorn.conf.py, its ini file, its pages."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from pulse.cli.main import main
from tests.examples.conftest import ROOT, served_copy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Server

INI = "examples/demo/demo.ini"
HINT = re.compile(r"demo: kill (\d+) ends a worker; another one takes over its tasks")
RUN = re.compile(r"pulse: cleanup \S+Z succeeded 200 .*\[pid (\d+)\]")


def test_check_of_the_demo_reports_no_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its actions too are answered by views."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)
    status = main(["check", INI])
    assert (status, capsys.readouterr().err) == (0, "")


@pytest.fixture
def demo(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running copy of the demo in the mode that the parameter names."""
    with served_copy(tmp_path, INI, request.param) as server:
        yield server


@pytest.mark.server
@pytest.mark.parametrize("demo", ["gevent", "threading", "processing"], indirect=True)
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
