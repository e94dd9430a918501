from __future__ import annotations

from pulse.settings.converters import boolean, duration
from pulse.settings.setting import Setting, read, table


def row(name: str, convert: object = boolean) -> Setting:
    """Return a setting of which only name and converter matter."""
    return Setting(name=name, convert=convert, kind="", default="", help="", example="")


TABLE = table(row("guard"), row("lease", duration))


def test_a_table_holds_its_rows_by_name() -> None:
    """The order of the table is the order of the reference page."""
    assert list(TABLE) == ["guard", "lease"]


def test_values_come_back_converted() -> None:
    """What was given is read by its own converter; what was not given is absent."""
    assert read(TABLE, {"lease": "1s"}) == ({"lease": 1_000_000}, [])


def test_all_problems_come_back_together() -> None:
    """One bad value does not hide another, nor the good ones."""
    values, problems = read(TABLE, {"guard": "x", "lease": "y", "gard": "z"}, prefix="p.")
    assert values == {}
    assert [problem.split()[0] for problem in problems] == ["p.guard:", "p.lease:", "p.gard:"]


def test_a_misspelt_key_is_told_the_nearest() -> None:
    """The sentence names the key in full."""
    _, problems = read(TABLE, {"gaurd": "1"}, prefix="pulse.config.")
    assert problems == ["pulse.config.gaurd: unknown setting; did you mean 'guard'?"]


def test_a_strange_key_is_told_them_all() -> None:
    """Where nothing is near, the known ones are listed."""
    _, problems = read(TABLE, {"zzz": "1"})
    assert problems == ["zzz: unknown setting; expected one of guard, lease"]


def test_a_comment_behind_a_value_is_explained() -> None:
    """Ini files have no comments there, which the value alone would not tell."""
    _, problems = read(TABLE, {"lease": "10s ; short"})
    assert problems[0].endswith("got '10s ; short'; a comment must stand on a line of its own")
