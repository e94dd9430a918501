"""The JSON of a run-time task is complete: every process builds the same definition from it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND
from pulse.core.runtime_task import (
    TaskDefaults,
    cached_loader,
    load_runtime_task,
    make_runtime_task,
)
from pulse.core.task import Task, build_definition
from pulse.errors import ConfigError

SCHEDULES = st.sampled_from(
    [
        {"interval": 300},
        {"interval": "1h", "start": "2026-03-29T02:30:00"},
        {"cron": "30 2 * * *"},
        {"cron": "30 2 * * *", "timezone": "Asia/Tokyo", "end": datetime(2030, 1, 1, tzinfo=UTC)},
        {"every": "1 month", "start": "2026-01-31T09:00:00"},
        {"at": "2026-10-25T02:30:00"},
        {"at": datetime(2026, 10, 25, 2, 30)},  # noqa: DTZ001 - of the task's zone
    ]
)
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "timeout": st.sampled_from([5, "2m", 0.25]),
        "body": st.binary(max_size=5),
        "headers": st.just({"X-One": "a b", "X-Zwei": "é"}),
        "overlap": st.sampled_from(["wait", "allow"]),
        "retries": st.integers(0, 3),
        "grace": st.sampled_from([0, 7]),
    },
)
ACTIONS = st.sampled_from(["send", "/reports/send?user=5", "a/b", "/caf%C3%A9?x=%20"])
DEFAULTS = TaskDefaults(context="reports", timeout_us=90 * SECOND, timezone="Europe/Berlin")


@given(action=ACTIONS, schedule=SCHEDULES, others=OTHERS)
def test_json_of_a_runtime_task_has_the_defaults_of_the_adding_process(
    action: str, schedule: dict[str, object], others: dict[str, object]
) -> None:
    """A process with another configuration builds the same definition."""
    task = Task(action=action, **schedule, **others)
    runtime_task = make_runtime_task("report", task, DEFAULTS)
    expected = build_definition(
        "report", task, context="reports", timeout_us=90 * SECOND, timezone="Europe/Berlin"
    )
    assert (
        load_runtime_task("report", runtime_task.task_json) == runtime_task.definition == expected
    )


def test_json_of_a_runtime_task_is_printable_ascii() -> None:
    """Every store can keep the JSON, whatever the body is."""
    text = make_runtime_task(
        "report", Task(action="send", interval=60, body=b"\xff\0"), DEFAULTS
    ).task_json
    assert text.isascii()
    assert text.isprintable()


def test_json_of_a_runtime_task_is_complete() -> None:
    """Path, timeout and time zone do not depend on the configuration of the reader."""
    found = json.loads(
        make_runtime_task("report", Task(action="send", cron="@daily"), DEFAULTS).task_json
    )
    assert found == {
        "action": "/reports/send",
        "cron": "@daily",
        "timeout": "1m30s",
        "timezone": "Europe/Berlin",
    }


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"action": "/send", "interval": "60s", "moon": "full"}, "moon"),
        ({"action": "/send", "interval": "60s", "overlap": "queue"}, "overlap"),
    ],
)
def test_unknown_setting_of_a_newer_release_is_refused_by_name(
    settings: dict[str, str], named: str
) -> None:
    """The error names the task and the setting."""
    with pytest.raises(ConfigError, match=f"report: expected settings .* this release .*{named}"):
        load_runtime_task("report", json.dumps(settings))


def test_cached_loader_builds_a_definition_once() -> None:
    """The second call returns the same object."""
    load = cached_loader()
    text = make_runtime_task("report", Task(action="send", interval=60), DEFAULTS).task_json
    assert load("report", text) is load("report", text)
