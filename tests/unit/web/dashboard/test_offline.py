"""Pages in a file of their own load nothing, and lanes of a forecast have what it forecasts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pulse.cli.main import main
from tests.unit.cli.conftest import ini  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

SITE = """\
[filter:pulse]
use = egg:pulse
pulse.config.timezone = Europe/Berlin
pulse.task.night.action = /night
pulse.task.night.cron = 30 2 * * *
pulse.task.often.action = /often
pulse.task.often.interval = 10s
pulse.task.<b>odd</b>.action = /odd
pulse.task.<b>odd</b>.interval = 2h

[app:main]
use = call:wsgiref.simple_server:demo_app
filter-with = pulse
"""


def test_page_of_a_forecast_is_one_file_with_lanes_and_clock_changes(
    ini: Callable[..., Path],  # noqa: F811 - the fixture
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a configuration that is not deployed; names of tasks are text in it."""
    file = ini(SITE)
    words = ["--from", "2026-03-28T12:00:00Z", "--for", "1d", "--html"]
    status = main(["simulate", str(file), *words])
    page = capsys.readouterr().out
    assert status == 0
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|<b>odd", page)
    assert "8,639 fire times to come" in page
    assert "the clocks of Europe/Berlin go forward by 1 hour" in page
    assert page.count('class="lane"') == 3
