"""The fixture `pulse_travel`, which pytest finds without configuration."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pulse import PulseMiddleware, Task
from pulse.errors import NotServingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pulse.testing.plugin import Travel


def view(_environ: dict, start_response: Callable) -> list[bytes]:
    """Answer that all is well."""
    start_response("200 OK", [])
    return [b"done"]


@pytest.fixture
def app() -> Iterator[PulseMiddleware]:
    """An app that is checked again after the test and its time travel have ended."""
    app = PulseMiddleware(view, tasks={"work": Task(action="work", interval="1h")})
    yield app
    with pytest.raises(NotServingError):
        app.scheduler.tasks()


def test_fixture_starts_time_travel(app: PulseMiddleware, pulse_travel: Travel) -> None:
    """The time travel starts at the call, and ends with the test."""
    clock = pulse_travel(app, start="2026-03-01T00:00:00Z", took={"work": 1})
    clock.forward(hours=2)
    assert [run.fire_time.hour for run in clock.runs("work")] == [1, 2]


def test_plugin_imports_almost_nothing() -> None:
    """Tests of other packages do not pay for the plugin."""
    code = (
        "import pulse.testing.plugin, sys;"
        "print(sorted(name for name in sys.modules if name.startswith('pulse')))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert loaded.stdout.strip() == "['pulse', 'pulse.testing', 'pulse.testing.plugin']"
