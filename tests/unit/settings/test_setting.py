from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from pulse.settings.converters import boolean, duration
from pulse.settings.setting import Setting, read, table, table_of


def row(name: str, convert: object = boolean) -> Setting:
    """Return a setting with a name and a converter."""
    return Setting(name=name, convert=convert, kind="", default="", help="", example="")


TABLE = table(row("guard"), row("lease", duration))


def test_table_contains_its_rows_by_name() -> None:
    """The order of the table is the order of the reference page."""
    assert list(TABLE) == ["guard", "lease"]


def test_read_returns_converted_values() -> None:
    """A setting that was not given is absent from the result."""
    assert read(TABLE, {"lease": "1s"}) == ({"lease": 1_000_000}, [])


def test_read_returns_all_problems() -> None:
    """An invalid value does not hide another invalid value."""
    values, problems = read(TABLE, {"guard": "x", "lease": "y", "gard": "z"}, prefix="p.")
    assert values == {}
    assert [problem.split()[0] for problem in problems] == ["p.guard:", "p.lease:", "p.gard:"]


def test_misspelt_key_is_reported_with_a_suggestion() -> None:
    """The sentence contains the full key."""
    _, problems = read(TABLE, {"gaurd": "1"}, prefix="pulse.config.")
    assert problems == ["pulse.config.gaurd: unknown setting; did you mean 'guard'?"]


def test_unknown_key_is_reported_with_all_settings() -> None:
    """Without a similar setting, all settings are listed."""
    _, problems = read(TABLE, {"zzz": "1"})
    assert problems == ["zzz: unknown setting; expected one of guard, lease"]


def test_comment_after_a_value_is_reported_with_a_hint() -> None:
    """Ini files do not support comments after a value."""
    _, problems = read(TABLE, {"lease": "10s ; short"})
    assert problems[0].endswith("got '10s ; short'; a comment must be on a line of its own")


Flag = Annotated[bool | str, Setting(convert=boolean, kind="", help="", example="")]
Wait = Annotated[
    int | None,
    Setting(convert=duration, kind="", help="", example="", is_span=True, fallback=90_000_000),
]


class Declared(msgspec.Struct):
    """A struct whose fields declare settings."""

    guard: Flag
    quiet: Flag = "no"
    lease: Wait = 5
    drain: Wait = None


def test_table_of_a_struct_takes_names_and_order_from_the_fields() -> None:
    """The name of a setting is not repeated."""
    assert [(name, row.name) for name, row in table_of(Declared).items()] == [
        (name, name) for name in Declared.__struct_fields__
    ]


def test_table_of_a_struct_takes_defaults_from_the_fields() -> None:
    """A setting holds the exact default, and its text; None leaves the setting's own fallback."""
    rows = table_of(Declared)
    found = {name: (rows[name].fallback, rows[name].default) for name in rows if name != "guard"}
    assert found == {
        "quiet": (False, "false"),
        "lease": (5_000_000, "5s"),
        "drain": (90_000_000, "1m30s"),
    }


def test_field_without_a_setting_is_refused() -> None:
    """The error names the field."""

    class Undeclared(msgspec.Struct):
        guard: bool

    with pytest.raises(TypeError, match="exactly one Setting in the annotation of guard"):
        table_of(Undeclared)
