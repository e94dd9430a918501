from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pulse.clock import SECOND
from pulse.errors import BadValueError, ConfigError
from pulse.schedule import converters
from pulse.schedule.bounded import BoundedSchedule
from pulse.schedule.calendar_interval import CalendarInterval
from pulse.schedule.cron import Cron
from pulse.schedule.factory import schedule_of, schedule_problems
from pulse.schedule.interval import Interval
from pulse.schedule.once import Once
from pulse.settings.converters import duration, instant

if TYPE_CHECKING:
    from pulse.schedule.base import Schedule

CONVERTERS = {
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
    """Return the converted values of a user's settings."""
    return {name: CONVERTERS[name](value) for name, value in given.items()}


DECLARED: list[tuple[dict[str, object], Schedule]] = [
    ({"interval": "5m"}, Interval(300)),
    ({"interval": 60, "start": "2027-01-01"}, Interval(60, start=NEW_YEAR)),
    ({"interval": 60, "end": NEW_YEAR}, BoundedSchedule(Interval(60), end=NEW_YEAR_US)),
    ({"cron": "0  7 * * mon-fri"}, Cron("0 7 * * 1-5")),
    ({"cron": "@daily", "timezone": "Europe/Berlin"}, Cron("@daily", timezone="Europe/Berlin")),
    (
        {"cron": "@daily", "timezone": "Europe/Berlin", "start": "2027-01-01", "end": "2027-01-01"},
        BoundedSchedule(Cron("@daily", timezone="Europe/Berlin"), BERLIN_US, BERLIN_US),
    ),
    ({"at": "2027-01-01T00:00:00Z"}, Once.of(NEW_YEAR_US)),
    ({"at": "2027-01-01", "timezone": "Europe/Berlin"}, Once.of(BERLIN_US)),
    ({"every": "1 Month"}, CalendarInterval("1 month")),
    (
        {"every": "2 weeks", "start": "2027-01-01", "timezone": "Europe/Berlin", "end": NEW_YEAR},
        BoundedSchedule(
            CalendarInterval("2 weeks", start="2027-01-01", timezone="Europe/Berlin"),
            end=NEW_YEAR_US,
        ),
    ),
]


@pytest.mark.parametrize(("given", "schedule"), DECLARED, ids=lambda value: str(value)[:60])
def test_settings_declare_a_schedule(given: dict[str, object], schedule: Schedule) -> None:
    """One setting selects the kind of schedule; start, end and timezone are options."""
    assert schedule_of(exact(given)) == schedule


@pytest.mark.parametrize(("given", "schedule"), DECLARED, ids=lambda value: str(value)[:60])
def test_settings_of_a_schedule_declare_an_equal_schedule(
    given: dict[str, object], schedule: Schedule
) -> None:
    """The settings of a schedule are stored and parsed again."""
    assert schedule_of(exact(dict(schedule.to_text()))) == schedule_of(exact(given))


def test_converted_instants_are_accepted() -> None:
    """A value that is already an instant stays unchanged."""
    schedule = schedule_of({"interval": 60 * SECOND, "start": NEW_YEAR_US})

    assert schedule == Interval(60, start=NEW_YEAR)


def test_date_without_offset_uses_the_default_zone() -> None:
    """The default zone applies to a task without a zone."""
    schedule = schedule_of(
        exact({"interval": 60, "start": "2027-01-01T00:00"}), timezone="Europe/Berlin"
    )
    assert schedule == Interval(60, start="2026-12-31T23:00:00Z")


def test_zone_of_the_task_overrides_the_default_zone() -> None:
    """The zone applies to the start of an interval, too."""
    given = {"interval": 60, "start": "2027-01-01T00:00", "timezone": "UTC"}
    schedule = schedule_of(exact(given), timezone="Europe/Berlin")
    assert schedule == Interval(60, start=NEW_YEAR)


def test_other_settings_of_a_task_are_ignored() -> None:
    """`schedule_of` accepts all values of a task."""
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
        [
            (
                "t.timezone: expected together with start or end, got interval alone; remove it, or"
                " use cron or every, whose fire times follow the clocks of a zone"
            )
        ],
    ),
    (
        {"at": NEW_YEAR, "start": NEW_YEAR, "end": NEW_YEAR},
        [
            "t.start: expected together with one of interval, cron, every, got at",
            "t.end: expected together with one of interval, cron, every, got at",
        ],
    ),
    (
        {"cron": "@daily", "start": "2027-01-02", "end": "2027-01-01"},
        ["t.end: expected start (2027-01-02T00:00:00Z) or later, got 2027-01-01T00:00:00Z"],
    ),
]


@pytest.mark.parametrize(("given", "problems"), PROBLEMS, ids=lambda value: str(value)[:60])
def test_conflicting_settings_are_reported(given: dict[str, object], problems: list[str]) -> None:
    """Each problem names the setting, the expectation and the given value."""
    assert schedule_problems(exact(given), prefix="t.") == problems


def test_conflicting_settings_raise_config_error() -> None:
    """The error contains all problems."""
    with pytest.raises(ConfigError) as raised:
        schedule_of(exact({"at": NEW_YEAR, "start": NEW_YEAR, "end": NEW_YEAR}), prefix="t.")

    assert len(raised.value.problems) == 2


def test_unconverted_values_are_no_further_problem() -> None:
    """The error for an invalid start is reported elsewhere."""
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
def test_converters_accept_their_own_results(name: str, value: str) -> None:
    """A converted value may be converted again."""
    once = CONVERTERS[name](value)

    assert CONVERTERS[name](once) == once


@pytest.mark.parametrize("name", ["cron", "every", "timezone", "at"])
@pytest.mark.parametrize("value", [None, 5, "nonsense", b"UTC"], ids=repr)
def test_converters_reject_other_values(name: str, value: object) -> None:
    """The error names the expectation."""
    with pytest.raises(BadValueError, match=r"^expected "):
        CONVERTERS[name](value)
