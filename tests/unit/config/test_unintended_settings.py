"""Settings that can be parsed but are probably mistakes."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pulse import PulseMiddleware, Task, events
from pulse.clock import instant_of
from pulse.config.loader import load
from pulse.config.settings import SETTINGS
from pulse.core.task import build_definition
from pulse.core.task_settings import TASK_SETTINGS
from pulse.core.task_warnings import never_fires, task_warnings
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
    "pulse.config.broker": '"amqp://shop@mq//"',
    "pulse.config.queue": '"slow"',
    "pulse.config.wait": "'5m'",
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


SMALL = ["0", "-1s", "1us", "5m5m", "1h 1h", "5m, 3s", "m5", "1e3", "5 5", "\u0665m", "soon", ""]
MOMENTS = ["", "soon", "2027-02-30", "25:00", "2027-13-01", "0", "2027-01-01T24:30", "now"]
ZONES = ["", "Berlin/Europe", "CET+1", "+01:00", "Mars/Base", "../UTC", "Europe"]
NUMBERS = ["", "-1", "1.5", "1e3", "0x10", "ten", "\u0665", "1 0"]
QUEUES = ["", "a b", "a,b", "a/b", "caf\u00e9", "amq.direct", "x" * 201]
REFUSED: dict[str, list[str]] = {
    "pulse.config.mode": ["", "thread", "gevent threading"],
    "pulse.config.guard": ["", "maybe", "2", "truee"],
    "pulse.config.guarded": ["/"],
    "pulse.config.start": ["", "now", "true"],
    "pulse.config.store_fallback": ["", "no", "memory:"],
    "pulse.config.concurrency": [*NUMBERS, "0", "10001"],
    "pulse.config.lease": [*SMALL, "999ms"],
    "pulse.config.drain": ["-1s", "5m5m", "1s 1s", "soon", ""],
    "pulse.config.broker": ["", "rabbit", "amqp://", "http://mq", "amqp://mq # main", "a:b()"],
    "pulse.config.queue": QUEUES,
    "pulse.config.wait": [*SMALL, "999ms"],
    "pulse.config.timeout": [*SMALL, "999us"],
    "pulse.config.timezone": ZONES,
    "pulse.config.keep_runs": [*NUMBERS, "0"],
    "pulse.config.keep_for": ["0", "-1s", "5m5m", "soon", ""],
    "pulse.config.keep_failures": ["0", "-1s", "5m5m", "soon", ""],
    "pulse.config.base_url": ["", "localhost", "ftp://localhost", "http://"],
    "pulse.config.api": ["", "/", "pulse", "/a b", "/a/../b", "/a?b"],
    "pulse.config.dashboard": ["", "/", "pulse", "/a b", "/a/../b", "/a?b"],
    "pulse.config.health": ["", "/", "pulse", "/a b"],
    "pulse.config.access": ["", "everybody", "token:secret", "act callable:a:b"],
    "pulse.config.trusted_origins": ["", "shop.example.org", "https://a/b", "ftp://a"],
    "pulse.config.output": ["", "all", "failed"],
    "pulse.config.redact": ["", "shop", "shop.redact"],
    "pulse.task.work.interval": [*SMALL, "0.0009", "999us", "101 years", "37000d"],
    "pulse.task.work.cron": [
        "",
        "* * *",
        "22-2 * * * *",
        "*/0 * * * *",
        "0 0 30 2 *",
        "60 * * * *",
    ],
    "pulse.task.work.every": ["", "0 days", "1 hour", "month", "-1 day", "1 fortnight", "1.5 days"],
    "pulse.task.work.at": MOMENTS,
    "pulse.task.work.timezone": ZONES,
    "pulse.task.work.start": MOMENTS,
    "pulse.task.work.end": [*MOMENTS, "2026-12-31"],
    "pulse.task.work.jitter": ["-1s", "5m5m", "soon", "", "37000d"],
    "pulse.task.work.run_at_start": ["", "once", "2"],
    "pulse.task.work.method": ["", "GET POST", "GE\tT", "G\u00c9T"],
    "pulse.task.work.headers": ["X-A", "X A: 1", ": 1"],
    "pulse.task.work.timeout": [*SMALL, "0.0001"],
    "pulse.task.work.overlap": ["", "never", "skip wait"],
    "pulse.task.work.max_running": [*NUMBERS, "0", "1001"],
    "pulse.task.work.misfire": ["", "first", "run"],
    "pulse.task.work.grace": ["-1s", "5m5m", "soon", ""],
    "pulse.task.work.scope": ["", "worker", "cluster"],
    "pulse.task.work.on_abandoned": ["", "retry", "true"],
    "pulse.task.work.retries": [*NUMBERS, "101"],
    "pulse.task.work.retry_min_backoff": ["0", "-1s", "5m5m", "soon"],
    "pulse.task.work.retry_max_backoff": ["0", "-1s", "5m5m", "soon", "1s"],
    "pulse.task.work.retry_max_doublings": [*NUMBERS, "61"],
    "pulse.task.work.queue": QUEUES,
    "pulse.task.work.remove_when_done": ["", "maybe", "2", "true"],
    "pulse.task.work.enabled": ["", "maybe", "2"],
}
"""Values that cannot be meant, for each setting."""

ANY_VALUE = {
    *("pulse.config.context", "pulse.config.store", "pulse.config.name"),
    *("pulse.config.application", "pulse.task.work.action", "pulse.task.work.body"),
}
"""Settings whose values have no such form, or tests of their own."""

KINDS = ("interval", "cron", "every", "at")


def config_with(key: str, value: str) -> dict[str, str]:
    """Return a configuration of one task with one more setting."""
    name = key.rpartition(".")[2]
    config = dict(TASK)
    if name in KINDS and key.startswith("pulse.task."):
        del config["pulse.task.work.interval"]
    if name in {"timezone", "end"} and key.startswith("pulse.task."):
        config["pulse.task.work.start"] = "2027-01-01"
    if name == "guarded":
        config["pulse.config.guard"] = "true"
    return config | {key: value}


def test_each_setting_is_in_the_table_of_refused_values() -> None:
    """A new setting needs a row."""
    keys = {f"pulse.config.{name}" for name in SETTINGS}
    keys |= {f"pulse.task.work.{name}" for name in TASK_SETTINGS}

    assert keys == REFUSED.keys() | ANY_VALUE


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in REFUSED.items() for value in values]
)
def test_value_that_cannot_be_meant_is_refused_at_its_key(key: str, value: str) -> None:
    """The configuration has one problem, whose text begins with the key."""
    assert [problem.partition(":")[0] for problem in problems(config_with(key, value))] == [key]


WARNED = [
    ({"cron": "*/45 * * * *"}, "cron: the step 45 selects minute 0, 45, not a constant distance"),
    ({"cron": "0 */7 * * *"}, "cron: the step 7 selects hour 0, 7, 14, 21, not"),
    ({"cron": "*/7 * * * *"}, "cron: the step 7 selects minute 0, 7, 14, ..., 56, not"),
    ({"cron": "*/61 * * * *"}, "cron: the step 61 selects minute 0 alone"),
    ({"cron": "0 0 */32 * *"}, "cron: the step 32 selects day of month 1 alone"),
    ({"cron": "0 0 */2 * *"}, "cron: the step 2 selects day of month 1, 3, 5, ..., 31, not"),
    ({"cron": "0 0 * * */2"}, "cron: the step 2 selects day of week 0, 2, 4, 6, not"),
    ({"cron": "0 0 31 2,4 fri"}, "cron: no month has such a day of month"),
    ({"interval": "1h", "grace": "0"}, "grace: a run begins some milliseconds after"),
    ({"interval": "1h", "grace": "1ms"}, "grace: a run begins some milliseconds after"),
    ({"interval": "5s", "retries": "3"}, "retries: the first retry would wait 5s"),
    ({"interval": "5m", "jitter": "10m"}, "jitter: a delay ends before the next fire time, 5m"),
    ({"interval": "1h", "retry_min_backoff": "1s"}, "retry_min_backoff: without retries"),
    ({"interval": "1h", "retry_max_backoff": "1d"}, "retry_max_backoff: without retries"),
    ({"interval": "1h", "retry_max_doublings": "1"}, "retry_max_doublings: without retries"),
]
"""Settings that are valid and probably not meant, and the beginning of their warning."""


@pytest.mark.parametrize(("settings", "warning"), WARNED, ids=str)
def test_settings_that_are_probably_not_meant_are_a_warning(
    settings: dict[str, str], warning: str
) -> None:
    """The warning begins with the name of the setting."""
    (found,) = task_warnings(build_definition("work", Task(action="/work", **settings)))

    assert found.startswith(warning)


@pytest.mark.parametrize(
    "settings",
    [
        {"cron": "*/15 * * * *"},
        {"cron": "5/20 * * * *"},
        {"cron": "0 8-18/2 * * *"},
        {"cron": "0 0 * */3 *"},
        {"cron": "0 0 31 1,2 fri"},
        {"cron": "0 0 L 2 fri"},
        {"cron": "0 0 29 2 fri"},
        {"interval": "1h", "grace": "1s", "retries": "3"},
        {"interval": "5m", "jitter": "5m"},
        {"at": "2020-01-01"},
    ],
    ids=str,
)
def test_usual_settings_are_no_warning(settings: dict[str, str]) -> None:
    """Even steps, days that some month has, and a grace that a run keeps."""
    assert task_warnings(build_definition("work", Task(action="/work", **settings))) == []


@pytest.mark.parametrize(
    ("settings", "reported"),
    [
        ({"interval": "1h", "end": "2026-01-05T11:59"}, True),
        ({"interval": "1h", "end": "2026-01-05T12:30"}, False),
        ({"interval": "1h", "start": "2026-01-05T11:45", "end": "2026-01-05T12:30"}, True),
        ({"cron": "0 * * * *", "end": "2026-01-05T12:30"}, False),
        ({"cron": "45 * * * *", "end": "2026-01-05T12:30"}, True),
        ({"cron": "45 * * * *", "start": "2027-01-01"}, False),
        ({"at": "2020-01-01"}, False),
    ],
    ids=str,
)
def test_task_is_reported_if_it_has_no_fire_time_left(
    settings: dict[str, str],
    reported: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """An interval without a start may have been seen earlier, so it may still have a fire time."""
    now = instant_of(datetime(2026, 1, 5, 12, tzinfo=UTC))
    definition = build_definition("work", Task(action="/work", **settings))

    assert bool(never_fires(definition, now)) is reported
