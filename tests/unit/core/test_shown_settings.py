"""The settings of a definition as text: what they show, and what they hide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.core.shown_settings import masked, shown_settings
from pulse.core.task import Task, build_definition


def settings_of(**keywords: object) -> dict[str, str]:
    """Return the settings of a task as they are shown."""
    words = {"action": "/work", "interval": 10} | keywords
    return shown_settings(build_definition("work", Task(**words)))  # type: ignore[arg-type] # any keyword


def test_defaults_are_left_out_but_the_timeout() -> None:
    """It may come from the configuration."""
    assert settings_of() == {"action": "/work", "interval": "10s", "timeout": "3m"}


def test_shown_settings_declare_the_same_task() -> None:
    """Without headers and a body nothing is hidden."""
    task = Task(
        action="/w%C3%B6rk?kind=a",
        cron="0 7 * * *",
        timezone="Europe/Berlin",
        overlap="allow",
        max_running=3,
        misfire="skip",
        grace="5m",
        jitter="30s",
        retries=2,
        retry_max_backoff="1m",
        on_abandoned="rerun",
        method="POST",
    )
    definition = build_definition("work", task)
    again = build_definition("work", Task(**shown_settings(definition)))
    assert again == definition


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("hunter2", "***"),
        ("${TOKEN}", "${TOKEN}"),
        ("Bearer ${TOKEN}", "***${TOKEN}"),
        ("${A}:${B}", "${A}***${B}"),
        ("${A}x", "${A}***"),
        ("$${TOKEN}", "***"),
    ],
)
def test_only_references_of_a_secret_are_shown(text: str, expected: str) -> None:
    """An escaped reference is text."""
    assert masked(text) == expected


@given(st.text(alphabet="ab${}*", max_size=20))
def test_no_other_letter_of_a_secret_is_shown(text: str) -> None:
    """Whatever surrounds the references."""
    rest = masked(text).replace("***", "")
    while "${" in rest:
        before, _, after = rest.partition("${")
        rest = before + after.partition("}")[2]
    assert rest == ""


def test_secrets_are_hidden() -> None:
    """The names of headers and the length of the body are none."""
    shown = settings_of(headers={"X-Key": "hunter2"}, body="hunter2", method="POST")
    assert "hunter2" not in repr(shown)
    assert (shown["headers"], shown["body"]) == ("X-Key: ***", "7 bytes")
