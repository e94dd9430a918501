from __future__ import annotations

from typing import Any

import pytest

from pulse.config.loader import load
from pulse.config.settings import SETTINGS, Keywords, Settings
from pulse.settings.setting import read

SPANS = {"lease", "drain", "wait", "timeout", "keep_for", "keep_failures"}


@pytest.mark.parametrize("row", SETTINGS.values(), ids=lambda row: row.name)
def test_examples_in_the_table_are_valid(row: Any) -> None:
    """An example of the reference page can be copied."""
    values, problems = read(SETTINGS, {row.name: row.example})
    assert (list(values), problems) == ([row.name], [])


@pytest.mark.parametrize("row", SETTINGS.values(), ids=lambda row: row.name)
def test_help_of_every_setting_is_a_sentence(row: Any) -> None:
    """The reference page shows the help."""
    assert row.help[0].isupper()
    assert row.help.endswith(".")
    assert row.kind
    assert row.default


def test_every_setting_is_a_field() -> None:
    """Fields of type Span have the suffix `_us`."""
    names = [f"{name}_us" if name in SPANS else name for name in SETTINGS]
    derived = ["tasks", "zones", "digest", "origin", "paste"]
    assert list(Settings.__struct_fields__) == [*names, *derived]


def test_every_setting_is_a_keyword() -> None:
    """The type of the keywords lists all settings."""
    assert list(Keywords.__annotations__) == [*SETTINGS, "tasks", "task"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("context", ""),
        ("mode", "threading"),
        ("guard", "false"),
        ("start", "auto"),
        ("lease", "30s"),
        ("drain", "25s"),
        ("base_url", "http://localhost"),
        ("queue", "pulse"),
        ("wait", "5m"),
        ("timeout", "180s"),
        ("keep_runs", "1000"),
        ("keep_for", "30d"),
        ("keep_failures", "90d"),
    ],
)
def test_documented_defaults_equal_the_defaults(name: str, value: str) -> None:
    """A setting with its default value changes nothing."""
    assert SETTINGS[name].default.startswith(value or "empty")
    assert load(None, {name: value}) == load(None, {})
