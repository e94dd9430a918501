"""Settings that can be read but cannot be meant."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pulse import PulseMiddleware, Task, events
from pulse.config.load import load
from pulse.errors import ConfigError
from pulse.testing.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

TASK = {"pulse.task.work.action": "/work", "pulse.task.work.interval": "5m"}
QUOTED = {
    "pulse.config.context": '"sessions"',
    "pulse.config.mode": '"threading"',
    "pulse.config.guard": "'true'",
    "pulse.config.store": '"memory:"',
    "pulse.config.name": '"shop"',
    "pulse.config.lease": "'30s'",
    "pulse.config.concurrency": '"4"',
    "pulse.config.base_url": '"http://example.org"',
    "pulse.config.timezone": "'Europe/Berlin'",
    "pulse.task.work.action": '"/work"',
    "pulse.task.work.interval": "'5m'",
    "pulse.task.work.method": '"POST"',
    "pulse.task.work.overlap": "'wait'",
    "pulse.task.work.end": '"2099-01-01"',
    "pulse.task.work.retries": '"3"',
    "pulse.task.work.run_at_start": '"yes"',
}
"""Keys of an ini file with a value in quotes, as a shell or TOML wants it."""


def problems(config: dict[str, str]) -> list[str]:
    """Return what is wrong with a configuration."""
    try:
        load(config, {})
    except ConfigError as error:
        return list(error.problems)
    return []


def answer(_: dict, start_response: Callable) -> list[bytes]:
    """Answer that all is well."""
    start_response("200 OK", [])
    return [b"done"]


def objections(caplog: pytest.LogCaptureFixture, **settings: object) -> list[str]:
    """Return what is said of a task: the problems that refuse it, or notices at its start."""
    try:
        task = Task(action="/work", **settings)
    except ConfigError as error:
        return list(error.problems)
    app = PulseMiddleware(answer, tasks={"seldom": task}, store="memory:")
    seen = Recorder(app.bus)
    app.assembly.begin()
    seen.wait_for(events.SchedulerStarted)
    app.assembly.end(None)
    notices = [notice.text for notice in seen.of(events.Notice)]
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    return [text for text in (*notices, *warned) if "seldom" in text]


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize(
    "interval", ["1us", "0.000001", "100us", 0.000_001, timedelta(microseconds=1)], ids=repr
)
def test_an_interval_of_microseconds_is_refused(interval: object) -> None:
    """No process runs a request so often."""
    accepted = False
    with suppress(ConfigError):
        accepted = bool(Task(action="/work", interval=interval))

    assert not accepted


def test_a_task_that_has_fire_times_brings_no_objection(caplog: pytest.LogCaptureFixture) -> None:
    """An end that is to come bounds the task, and nothing more."""
    assert objections(caplog, interval="1h", end="2099-01-01") == []


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize(
    "settings",
    [
        {"interval": "1h", "end": "2020-01-01"},
        {"cron": "0 7 * * *", "end": "2020-01-01"},
        {"every": "1 day", "end": "2020-01-01"},
        {"interval": "1h", "start": "2019-01-01", "end": "2020-01-01"},
        {"cron": "0 0 1 1 *", "start": "2098-02-01", "end": "2098-03-01"},
    ],
    ids=["interval", "cron", "every", "start and end", "no fire time between them"],
)
def test_a_task_that_never_fires_again_is_reported(
    settings: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the end comes before the first fire time, the task is refused or a notice names it."""
    assert objections(caplog, **settings) != []


@pytest.mark.parametrize("key", QUOTED)
def test_the_value_without_its_quotes_is_good(key: str) -> None:
    """The quotes alone are wrong."""
    assert problems({**TASK, key: QUOTED[key].strip("\"'")}) == []


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("key", QUOTED)
def test_a_value_in_quotes_is_refused_with_a_hint_at_them(key: str) -> None:
    """The error names the key, and says that an ini file takes values without quotes."""
    found = problems({**TASK, key: QUOTED[key]})

    assert [problem.partition(":")[0] for problem in found if "quot" in problem] == [key]


def test_a_body_in_quotes_is_good() -> None:
    """Quotes belong to JSON text."""
    assert problems({**TASK, "pulse.task.work.body": '"now"'}) == []


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC"])
def test_a_time_zone_beside_an_interval_is_refused_with_a_remedy(zone: str) -> None:
    """The error says to remove the setting, or to take a schedule that goes by a clock."""
    (problem,) = problems({**TASK, "pulse.task.work.timezone": zone})

    assert re.search(r"\b(remove|leave|omit|cron|every)\b", problem)
