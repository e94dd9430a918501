"""The words of a task that is added at run time say all that any process needs."""

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
USUAL = TaskDefaults(context="reports", timeout_us=90 * SECOND, timezone="Europe/Berlin")


@given(action=ACTIONS, schedule=SCHEDULES, others=OTHERS)
def test_the_words_define_what_the_adding_process_means(
    action: str, schedule: dict[str, object], others: dict[str, object]
) -> None:
    """A process with another configuration makes the same definition of them."""
    task = Task(action=action, **schedule, **others)
    runtime_task = make_runtime_task("report", task, USUAL)
    meant = build_definition(
        "report", task, context="reports", timeout_us=90 * SECOND, timezone="Europe/Berlin"
    )
    assert load_runtime_task("report", runtime_task.task_json) == runtime_task.definition == meant


def test_the_words_are_plain_text() -> None:
    """Any store keeps them, whatever the body holds."""
    words = make_runtime_task(
        "report", Task(action="send", interval=60, body=b"\xff\0"), USUAL
    ).task_json
    assert words.isascii()
    assert words.isprintable()


def test_the_words_are_complete() -> None:
    """Nothing that a configuration says is left open."""
    words = json.loads(
        make_runtime_task("report", Task(action="send", cron="@daily"), USUAL).task_json
    )
    assert words == {
        "action": "/reports/send",
        "cron": "@daily",
        "timeout": "1m30s",
        "timezone": "Europe/Berlin",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"action": "/send", "interval": "60s", "moon": "full"}, "moon"),
        ({"action": "/send", "interval": "60s", "overlap": "queue"}, "overlap"),
    ],
)
def test_words_of_a_newer_release_are_named(words: dict[str, str], said: str) -> None:
    """The error says whose they are, and which."""
    with pytest.raises(ConfigError, match=f"report: expected words .* this release .*{said}"):
        load_runtime_task("report", json.dumps(words))


def test_a_definition_is_made_once() -> None:
    """Where it is needed again, it is there."""
    recall = cached_loader()
    words = make_runtime_task("report", Task(action="send", interval=60), USUAL).task_json
    assert recall("report", words) is recall("report", words)
