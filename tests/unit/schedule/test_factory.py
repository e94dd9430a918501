from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pulse.clock import SECOND
from pulse.errors import BadValueError, ConfigError
from pulse.schedule import converters
from pulse.schedule.bounded import Window
from pulse.schedule.calendar_interval import CalendarInterval
from pulse.schedule.cron import Cron
from pulse.schedule.factory import schedule_of, schedule_problems
from pulse.schedule.interval import Interval
from pulse.schedule.once import Once
from pulse.settings.converters import duration, instant

if TYPE_CHECKING:
    from pulse.schedule.base import Schedule

READ = {
    "interval": duration,
    "cron": converters.cron,
    "at": converters.moment,
    "every": converters.every,
    "start": converters.moment,
    "end": converters.moment,
    "timezone": converters.zone,
}
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
NEW_YEAR_US = instant("2027-01-01T00:00:00Z")
BERLIN_US = NEW_YEAR_US - 3_600 * SECOND


def exact(given: dict[str, object]) -> dict[str, Any]:
    """Return the exact values of what a user wrote."""
    return {name: READ[name](value) for name, value in given.items()}


DECLARED: list[tuple[dict[str, object], Schedule]] = [
    ({"interval": "5m"}, Interval(300)),
    ({"interval": 60, "start": "2027-01-01"}, Interval(60, start=NEW_YEAR)),
    ({"interval": 60, "end": NEW_YEAR}, Window(Interval(60), end=NEW_YEAR_US)),
    ({"cron": "0  7 * * mon-fri"}, Cron("0 7 * * 1-5")),
    ({"cron": "@daily", "timezone": "Europe/Berlin"}, Cron("@daily", timezone="Europe/Berlin")),
    (
        {"cron": "@daily", "timezone": "Europe/Berlin", "start": "2027-01-01", "end": "2027-01-01"},
        Window(Cron("@daily", timezone="Europe/Berlin"), BERLIN_US, BERLIN_US),
    ),
    ({"at": "2027-01-01T00:00:00Z"}, Once.of(NEW_YEAR_US)),
    ({"at": "2027-01-01", "timezone": "Europe/Berlin"}, Once.of(BERLIN_US)),
    ({"every": "1 Month"}, CalendarInterval("1 month")),
    (
        {"every": "2 weeks", "start": "2027-01-01", "timezone": "Europe/Berlin", "end": NEW_YEAR},
        Window(
            CalendarInterval("2 weeks", start="2027-01-01", timezone="Europe/Berlin"),
            end=NEW_YEAR_US,
        ),
    ),
]


@pytest.mark.parametrize(("given", "schedule"), DECLARED, ids=lambda value: str(value)[:60])
def test_settings_declare_a_schedule(given: dict[str, object], schedule: Schedule) -> None:
    """One setting says which kind; start, end and timezone go beside it."""
    assert schedule_of(exact(given)) == schedule


@pytest.mark.parametrize(("given", "schedule"), DECLARED, ids=lambda value: str(value)[:60])
def test_what_a_schedule_spells_declares_it(given: dict[str, object], schedule: Schedule) -> None:
    """The spelling is stored, and read again."""
    assert schedule_of(exact(dict(schedule.spell()))) == schedule_of(exact(given))


def test_instants_are_taken_as_they_are() -> None:
    """What has been converted to an instant already is one."""
    found = schedule_of({"interval": 60 * SECOND, "start": NEW_YEAR_US})

    assert found == Interval(60, start=NEW_YEAR)


def test_a_date_without_offset_is_of_the_usual_zone_where_none_is_named() -> None:
    """The zone of the whole configuration applies to what names none."""
    found = schedule_of(
        exact({"interval": 60, "start": "2027-01-01T00:00"}), timezone="Europe/Berlin"
    )
    assert found == Interval(60, start="2026-12-31T23:00:00Z")


def test_a_named_zone_wins_over_the_usual_one() -> None:
    """Also for an interval's start."""
    given = {"interval": 60, "start": "2027-01-01T00:00", "timezone": "UTC"}
    found = schedule_of(exact(given), timezone="Europe/Berlin")
    assert found == Interval(60, start=NEW_YEAR)


def test_settings_of_other_kinds_are_passed_over() -> None:
    """All the values of a task may be given."""
    assert schedule_of({"action": "x", "interval": SECOND, "method": "GET"}) == Interval(1)


SOME = "a schedule such as interval = 300 or cron = 0 7 * * mon-fri"
PROBLEMS = [
    (
        {},
        [f"t.interval: expected {SOME}, got none"],
    ),
    (
        {"interval": 60, "cron": "@daily"},
        ["t.cron: expected exactly one of interval, cron, at, every, got interval and cron"],
    ),
    (
        {"interval": 60, "timezone": "UTC"},
        ["t.timezone: expected a start or an end beside it, got interval alone"],
    ),
    (
        {"at": NEW_YEAR, "start": NEW_YEAR, "end": NEW_YEAR},
        [
            "t.start: expected one of interval, cron, every beside it, got at",
            "t.end: expected one of interval, cron, every beside it, got at",
        ],
    ),
    (
        {"cron": "@daily", "start": "2027-01-02", "end": "2027-01-01"},
        ["t.end: expected no earlier than start, 2027-01-02T00:00:00Z, got 2027-01-01T00:00:00Z"],
    ),
]


@pytest.mark.parametrize(("given", "problems"), PROBLEMS, ids=lambda value: str(value)[:60])
def test_what_does_not_go_together_is_told(given: dict[str, object], problems: list[str]) -> None:
    """Each problem is a sentence that names the setting, what was expected and what came."""
    assert schedule_problems(exact(given), prefix="t.") == problems


def test_no_schedule_is_made_of_what_does_not_go_together() -> None:
    """All the problems are raised at once."""
    with pytest.raises(ConfigError) as refused:
        schedule_of(exact({"at": NEW_YEAR, "start": NEW_YEAR, "end": NEW_YEAR}), prefix="t.")

    assert len(refused.value.problems) == 2


def test_what_was_not_converted_is_no_further_problem() -> None:
    """A start that is wrong has been told already."""
    assert schedule_problems({"cron": "@daily", "start": "soon", "end": NEW_YEAR}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cron", "0 7  * * mon-fri"),
        ("cron", "@Daily"),
        ("every", "1 months"),
        ("every", "2 Weeks"),
        ("timezone", " Europe/Berlin "),
        ("timezone", "UTC"),
        ("at", "2027-01-01T00:00:00+01:00"),
        ("at", "2027-01-01"),
    ],
)
def test_converters_take_their_own_results(name: str, value: str) -> None:
    """A value may pass twice."""
    once = READ[name](value)

    assert READ[name](once) == once


@pytest.mark.parametrize("name", ["cron", "every", "timezone", "at"])
@pytest.mark.parametrize("value", [None, 5, "nonsense", b"UTC"], ids=repr)
def test_converters_refuse_what_is_none_of_theirs(name: str, value: object) -> None:
    """The error says what was expected."""
    with pytest.raises(BadValueError, match=r"^expected "):
        READ[name](value)
