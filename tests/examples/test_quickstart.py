"""The quickstart under gunicorn, with the repository's gunicorn.conf.py and its ini file."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.examples.conftest import served_copy
from tests.support.servers import is_alive
from tests.support.variants import long_variant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Server

RUN = re.compile(r"pulse: cleanup (\S+Z) succeeded 200 in .+, .+ late.* \[pid (\d+)\]")
MODES = ["gevent", long_variant("threading"), "processing"]

pytestmark = pytest.mark.server


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running copy of the quickstart in the mode that the parameter names."""
    with served_copy(tmp_path, "examples/quickstart/quickstart.ini", request.param) as server:
        yield server


def runs(site: Server) -> list[tuple[str, str]]:
    """Return the fire time and the worker of each run that the terminal shows."""
    return RUN.findall(site.log_text())


def serves(site: Server) -> bool:
    """Return whether all four workers take part."""
    return site.log_text().count("pulse: started") == 4


@pytest.mark.parametrize("site", MODES, indirect=True)
def test_the_terminal_shows_each_tick_once_from_a_worker(site: Server) -> None:
    """Ticks are shown two seconds apart, each once, with the pid of the worker that ran it."""
    site.wait_for(lambda: len(runs(site)) >= 3, what="three ticks")

    shown = runs(site)

    workers = {str(pid) for pid in site.workers()}
    assert (
        max(Counter(fire for fire, _ in shown).values()),
        {pid for _, pid in shown} - workers,
    ) == (
        1,
        set(),
    )


@pytest.mark.parametrize("site", MODES, indirect=True)
def test_control_c_ends_it_without_a_traceback(site: Server) -> None:
    """An interrupt to the terminal's whole group lets each worker end in order, and all of it."""
    site.wait_for(lambda: serves(site) and len(runs(site)) > 1, what="four workers take turns")
    family = site.family()

    os.killpg(site.pid, signal.SIGINT)

    status, log = site.wait_ended(), site.log_text()
    left = [pid for pid in family if is_alive(pid)]
    found = (status, log.count("pulse: stopped"), "Traceback" in log, left)
    assert found == (0, 4, False, []), log


@pytest.mark.parametrize("site", ["gevent"], indirect=True)
def test_a_visitor_is_served_and_kept_from_the_scheduled_view(site: Server) -> None:
    """The home page answers; the view that pulse requests answers 403 to everybody else."""
    statuses = [site.get("/").status, site.get("/sessions/cleanup").status]

    assert statuses == [200, 403]
