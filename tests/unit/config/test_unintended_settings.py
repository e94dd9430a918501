"""Settings that can be parsed but are probably mistakes."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pulse import PulseMiddleware, Task, events
from pulse.config.loader import load
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
"""Keys of an ini file with a value in quotes, as a shell or TOML requires."""


def problems(config: dict[str, str]) -> list[str]:
    """Return the problems of a configuration."""
    try:
        load(config, {})
    except ConfigError as error:
        return list(error.problems)
    return []


def respond(_: dict, start_response: Callable) -> list[bytes]:
    """Return a successful response."""
    start_response("200 OK", [])
    return [b"done"]


def objections(caplog: pytest.LogCaptureFixture, **settings: object) -> list[str]:
    """Return the problems or the notices at start for a task with these settings."""
    try:
        task = Task(action="/work", **settings)
    except ConfigError as error:
        return list(error.problems)
    app = PulseMiddleware(respond, tasks={"seldom": task}, store="memory:")
    seen = Recorder(app.bus)
    app.runtime.start()
    seen.wait_for(events.SchedulerStarted)
    app.runtime.shutdown(None)
    notices = [notice.text for notice in seen.of(events.Notice)]
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    return [text for text in (*notices, *warned) if "seldom" in text]


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize(
    "interval", ["1us", "0.000001", "100us", 0.000_001, timedelta(microseconds=1)], ids=repr
)
def test_interval_of_microseconds_is_rejected(interval: object) -> None:
    """No process can run a request at such a rate."""
    accepted = False
    with suppress(ConfigError):
        accepted = bool(Task(action="/work", interval=interval))

    assert not accepted


def test_task_with_fire_times_has_no_objection(caplog: pytest.LogCaptureFixture) -> None:
    """An end in the future only bounds the task."""
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
def test_task_without_future_fire_times_is_reported(
    settings: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """If the end is earlier than the first fire time, an error or a notice names the task."""
    assert objections(caplog, **settings) != []


@pytest.mark.parametrize("key", QUOTED)
def test_value_without_quotes_is_valid(key: str) -> None:
    """Only the quotes are invalid."""
    assert problems({**TASK, key: QUOTED[key].strip("\"'")}) == []


@pytest.mark.parametrize("key", QUOTED)
def test_value_in_quotes_is_rejected_with_a_hint(key: str) -> None:
    """The error names the key and asks for a value without quotes."""
    reported = problems({**TASK, key: QUOTED[key]})

    assert [problem.partition(":")[0] for problem in reported if "quot" in problem] == [key]


def test_body_in_quotes_is_valid() -> None:
    """Quotes are part of JSON text."""
    assert problems({**TASK, "pulse.task.work.body": '"now"'}) == []


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC"])
def test_time_zone_of_an_interval_is_rejected_with_a_remedy(zone: str) -> None:
    """The error asks to remove the setting, or to use a schedule with a time zone."""
    (problem,) = problems({**TASK, "pulse.task.work.timezone": zone})

    assert re.search(r"\b(remove|leave|omit|cron|every)\b", problem)
