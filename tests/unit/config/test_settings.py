from __future__ import annotations

from typing import Any

import pytest

from pulse.config.loader import load
from pulse.config.settings import SETTINGS, Keywords, Settings
from pulse.settings.setting import read

SPANS = {"lease", "drain", "timeout", "keep_for"}


@pytest.mark.parametrize("row", SETTINGS.values(), ids=lambda row: row.name)
def test_the_examples_in_the_table_are_good_values(row: Any) -> None:
    """What the reference page shows can be copied."""
    values, problems = read(SETTINGS, {row.name: row.example})
    assert (list(values), problems) == ([row.name], [])


@pytest.mark.parametrize("row", SETTINGS.values(), ids=lambda row: row.name)
def test_every_setting_is_explained_in_one_sentence(row: Any) -> None:
    """A help that is no sentence would show in the reference."""
    assert row.help[0].isupper()
    assert row.help.endswith(".")
    assert row.kind
    assert row.default


def test_every_setting_is_a_field() -> None:
    """Fields that hold a span carry their unit."""
    names = [f"{name}_us" if name in SPANS else name for name in SETTINGS]
    found = ["tasks", "zones", "digest", "origin", "paste"]
    assert list(Settings.__struct_fields__) == [*names, *found]


def test_every_setting_is_a_keyword() -> None:
    """What a type checker is told is what is taken."""
    assert list(Keywords.__annotations__) == [*SETTINGS, "tasks", "task"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("context", ""),
        ("mode", "threading"),
        ("guard", "false"),
        ("start", "auto"),
        ("lease", "30s"),
        ("drain", "25s"),
        ("base_url", "http://localhost"),
        ("timeout", "180s"),
        ("keep_runs", "1000"),
        ("keep_for", "30d"),
    ],
)
def test_the_defaults_are_the_documented_ones(name: str, word: str) -> None:
    """To say a default changes nothing."""
    assert SETTINGS[name].default.startswith(word or "empty")
    assert load(None, {name: word}) == load(None, {})
