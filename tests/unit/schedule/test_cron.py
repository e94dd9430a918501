from __future__ import annotations

import calendar
import pickle
import re
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pulse.clock import SECOND, instant_of
from pulse.errors import BadValueError
from pulse.schedule.base import DueTimes
from pulse.schedule.cron import Cron
from tests.support.wall_clock import Fields, every_minute_fields, every_second_fields, field

BERLIN = ZoneInfo("Europe/Berlin")
YEAR = 366 * 86_400 * SECOND
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)


def days_of(expression: str, year: int) -> list[str]:
    """Return the days of a year on which a daily expression fires, as month-day."""
    cron = Cron(expression)
    actual = []
    moment = cron.next(datetime(year, 1, 1, tzinfo=UTC) - timedelta(seconds=1))
    while moment is not None and moment.year == year:
        actual.append(f"{moment:%m-%d}")
        moment = cron.next(moment)
    return actual


def days_where(year: int, test: object) -> list[str]:
    """Return the days of a year that pass a test, as month-day."""
    first = date(year, 1, 1)
    days = (first + timedelta(days=number) for number in range(365 + calendar.isleap(year)))
    return [f"{day:%m-%d}" for day in days if test(day)]  # type: ignore[operator]


def length(day: date) -> int:
    """Return the length of a day's month."""
    return calendar.monthrange(day.year, day.month)[1]


DAYS = {
    "0 0 * * *": lambda day: day.day > 0,
    "0 0 1,15 * *": lambda day: day.day in {1, 15},
    "0 0 * * 0": lambda day: day.isoweekday() == 7,
    "0 0 * * 7": lambda day: day.isoweekday() == 7,
    "0 0 * * SUN": lambda day: day.isoweekday() == 7,
    "0 0 * * fri-7": lambda day: day.isoweekday() >= 5,
    "0 0 * jan,Mar-apr mon-fri": lambda day: day.month in {1, 3, 4} and day.isoweekday() <= 5,
    "0 0 13 * fri": lambda day: day.day == 13 or day.isoweekday() == 5,
    "0 0 */13 * fri": lambda day: day.day in {1, 14, 27} and day.isoweekday() == 5,
    "0 0 13 * */5": lambda day: day.day == 13 and day.isoweekday() in {5, 7},
    "0 0 L * *": lambda day: day.day == length(day),
    "0 0 LW * *": lambda day: (
        day.isoweekday() <= 5
        and all((day + timedelta(n)).isoweekday() > 5 for n in range(1, length(day) - day.day + 1))
    ),
    "0 0 1,L * *": lambda day: day.day in {1, length(day)},
    "0 0 * * 5#2": lambda day: day.isoweekday() == 5 and 8 <= day.day <= 14,
    "0 0 * * 1#5": lambda day: day.isoweekday() == 1 and day.day >= 29,
    "0 0 * * 0#1,7L": lambda day: (
        day.isoweekday() == 7 and (day.day <= 7 or day.day > length(day) - 7)
    ),
    "0 0 * * 5L": lambda day: day.isoweekday() == 5 and day.day > length(day) - 7,
    "0 0 29 2 *": lambda day: (day.month, day.day) == (2, 29),
    "0 0 5-5/10 * *": lambda day: day.day == 5,
}


@pytest.mark.parametrize("year", [2023, 2024, 2100])
@pytest.mark.parametrize("expression", DAYS)
def test_day_fields_select_the_expected_days(expression: str, year: int) -> None:
    """Each form of a day field matches the days of its definition."""
    assert days_of(expression, year) == days_where(year, DAYS[expression])


@pytest.mark.parametrize(
    ("nickname", "expression"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@Annually", "0 0 0 1 jan *"),
    ],
)
def test_nickname_equals_its_expression(nickname: str, expression: str) -> None:
    """A nickname has the meaning that it has in other cron programs."""
    assert Cron(nickname) == Cron(expression)


@settings(max_examples=100)
@given(
    fields=every_minute_fields | every_second_fields,
    months=field(1, 12),
    after=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001 - made aware below
)
def test_fire_times_in_utc_equal_those_of_cronsim(
    fields: Fields, months: object, after: datetime
) -> None:
    """Without clock changes, `Cron` and cronsim return the same fire times."""
    expression = fields._replace(month=months).text  # type: ignore[arg-type]
    assume(not re.search(r"\b(\d+)-\1/", expression))  # cronsim reads 5-5/10 as 5/10
    moment, cron = after.replace(tzinfo=UTC), Cron(expression)
    expected = list(islice(CronSim(expression, moment), 5))

    actual = [moment := cron.next(moment) for _ in expected]  # type: ignore[arg-type]

    assert actual == expected


def test_next_returns_the_fire_time_in_the_zone_of_the_cron() -> None:
    """The argument may be in any time zone."""
    after = datetime(2026, 11, 23, 22, 59, tzinfo=ZoneInfo("America/New_York"))

    actual = Cron("0 7 * * mon-fri", timezone="Europe/Berlin").next(after)

    assert actual == datetime(2026, 11, 24, 7, tzinfo=BERLIN)
    assert actual.tzinfo is BERLIN


def test_next_is_strictly_later_than_a_fire_time() -> None:
    """A microsecond before a fire time, `next` returns this fire time."""
    cron = Cron("0 0 * * *")

    actual = [cron.next(NEW_YEAR - timedelta(microseconds=1)), cron.next(NEW_YEAR)]

    assert actual == [NEW_YEAR, NEW_YEAR + timedelta(days=1)]


def test_next_rejects_a_naive_datetime() -> None:
    """`next` requires a datetime with a time zone."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone"):
        Cron("@daily").next(datetime(2026, 1, 1))  # noqa: DTZ001 - the test needs a naive datetime


@pytest.mark.parametrize("early", [0, 1], ids=["at the fire time", "before it"])
def test_first_includes_the_instant_at_which_the_task_is_seen(early: int) -> None:
    """A task that is first seen at a fire time runs at this fire time."""
    assert Cron("@daily").first(instant_of(NEW_YEAR) - early) == instant_of(NEW_YEAR)


def test_next_after_the_year_9999_is_none() -> None:
    """No fire time is later than the maximum of `datetime`."""
    last = datetime(9999, 12, 31, 23, tzinfo=UTC)

    actual = [Cron("0 23 * * *").next(moment) for moment in (last - timedelta(1), last)]

    assert actual == [last - timedelta(0), None]


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Pacific/Apia", "UTC"])
@pytest.mark.parametrize("expression", ["0 23 31 12 *", "* * * * *", "0 0 29 2 *"])
def test_no_fire_time_exceeds_the_maximum_datetime_in_any_zone(expression: str, zone: str) -> None:
    """The last hours of 9999 in a zone behind UTC have no fire times."""
    cron = Cron(expression, timezone=zone)
    moment = datetime(9999, 12, 31, 20, tzinfo=UTC)

    actual = [
        cron.next_after(instant_of(moment) + hour * 3_600 * SECOND, anchor=0) for hour in range(9)
    ]

    assert all(
        fire_time is None or fire_time <= instant_of(datetime.max.replace(tzinfo=UTC))
        for fire_time in actual
    )
    assert actual[-1] is None


@pytest.mark.parametrize("after", [-(2**62), -(2**57)], ids=["floor", "before the calendar"])
def test_next_after_an_instant_before_year_1_is_in_year_1_or_2(after: int) -> None:
    """An instant before the first datetime, as of a task that never fired, is accepted."""
    actual = Cron("@yearly", timezone="Europe/Berlin").next_after(after, anchor=0)

    assert actual is not None
    assert actual < instant_of(datetime(3, 1, 1, tzinfo=UTC))


def test_due_counts_ten_years_of_seconds_exactly() -> None:
    """In UTC the count of `* * * * * *` is the number of seconds."""
    first = instant_of(NEW_YEAR)

    actual = Cron("* * * * * *").due(first, first + 10 * YEAR + 1, anchor=0)

    assert actual == DueTimes(first + 10 * YEAR, 10 * YEAR // SECOND + 1)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("99 * * * *", "a minute from 0 to 59 in '99 * * * *', got '99'"),
        ("60 * * * * *", "a second from 0 to 59 in '60 * * * * *', got '60'"),
        ("0 24 * * *", "an hour from 0 to 23 in '0 24 * * *', got '24'"),
        ("0 0 0 * *", "a day of month from 1 to 31, L or LW in '0 0 0 * *', got '0'"),
        ("0 0 1 febr *", "got 'febr'; did you mean 'feb'?"),
        ("0 0 * * mom", "got 'mom'; did you mean 'mon'?"),
        ("0 0 * * friL", "got 'fril'; did you mean '5L'?"),
        ("0 0 * * 5#6", "a day of week from 0 to 7, sun to sat, 5#2 or 5L in '0 0 * * 5#6'"),
        ("30-10 * * * *", "got '30-10'"),
        ("*/0 * * * *", "got '*/0'"),
        ("0 0 30 2 *", "that matches some day, got '0 0 30 2 *'"),
        ("0 0 31 4,6 *", "that matches some day, got '0 0 31 4,6 *'"),
        ("0 0 */30 * */8#1", "a day of week from 0 to 7"),
        ("0 0 */28 2 1#2", "a cron expression"),
        ("* * *", "five fields (minute, hour, day of month, month, day of week), or six"),
        ("0 0 12 * * * 2027", "or six with seconds first"),
        ("", "five fields"),
        ("@dialy", "got '@dialy'; did you mean '@daily'?"),
        ("@daily 5", "or one of @hourly, @daily"),
        ("@reboot", "use `run_at_start = true`"),
        ("@every 5m", "use `interval`"),
        ("CRON_TZ=Europe/Berlin 0 7 * * *", "set the time zone with `timezone`"),
        ("TZ=UTC 0 7 * * *", "set the time zone with `timezone`"),
        ("0 7 ? * *", "use `*` instead of `?`"),
        ("1" * 5_000 + " * * * *", "a cron expression such as"),
    ],
    ids=lambda text: text[:30],
)
def test_invalid_expression_is_rejected_with_the_reason(expression: str, message: str) -> None:
    """The error names the field, the accepted values, the given value and a similar name."""
    with pytest.raises(BadValueError) as raised:
        Cron(expression)

    assert message in str(raised.value)


@given(st.text(max_size=60) | st.text("0123456789*/-,#LW@ ", max_size=60))
def test_any_text_is_accepted_or_raises_bad_value_error(text: str) -> None:
    """No text raises an error of another class."""
    made = None
    with suppress(BadValueError):
        made = Cron(text)

    assert made is None or made.first(0) is not None


def test_number_is_rejected() -> None:
    """An expression must be a text."""
    with pytest.raises(BadValueError, match="a cron expression such as"):
        Cron(5)  # type: ignore[arg-type]


EQUAL = [
    ("0 7 * * mon-fri", "0  7 * * 1-5"),
    ("0 0 * * 0", "0 0 * * 7"),
    ("5 4 * * *", "0 5 4 * * *"),
    ("0 0 l * *", "0 0 L * *"),
]


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_expressions_with_the_same_meaning_are_equal(first: str, second: str) -> None:
    """Equality compares the meaning and not the text."""
    assert Cron(first) == Cron(second)
    assert hash(Cron(first)) == hash(Cron(second))


@pytest.mark.parametrize(
    "other",
    [
        Cron("0 8 * * mon-fri"),
        Cron("0 7 * * mon-fri", timezone="Europe/Berlin"),
        Cron("0 7 * * *"),
        "0 7 * * mon-fri",
    ],
    ids=repr,
)
def test_crons_with_other_times_zone_or_days_are_not_equal(other: object) -> None:
    """Equality compares times, zone and days, and the type."""
    assert Cron("0 7 * * mon-fri") != other


def test_wildcard_and_fixed_expression_are_not_equal() -> None:
    """Wildcard and fixed expressions differ at clock changes."""
    assert Cron("*/30 2 * * *") != Cron("0,30 2 * * *")


CRONS = [Cron("@daily"), Cron("0 7 * * MON-FRI", timezone="Europe/Berlin")]


@pytest.mark.parametrize("cron", CRONS, ids=repr)
def test_repr_evaluates_to_an_equal_cron(cron: Cron) -> None:
    """The repr of a schedule in a log can be pasted into code."""
    assert eval(repr(cron)) == cron  # noqa: S307 - evaluates a repr of the test


@pytest.mark.parametrize("cron", CRONS, ids=repr)
def test_pickle_restores_an_equal_cron(cron: Cron) -> None:
    """A pickle contains the text and restores its meaning."""
    copy = pickle.loads(pickle.dumps(cron))  # noqa: S301 - a pickle of the test

    assert (copy, repr(copy)) == (cron, repr(cron))


@pytest.mark.parametrize("cron", CRONS, ids=repr)
def test_settings_of_a_cron_declare_an_equal_cron(cron: Cron) -> None:
    """The settings contain the expression and the zone."""
    values = cron.to_text()

    assert Cron(values["cron"], timezone=values.get("timezone", "UTC")) == cron


def test_settings_omit_the_zone_utc() -> None:
    """A setting with its default value is omitted."""
    assert Cron("0  7 * *  *").to_text() == {"cron": "0 7 * * *"}


def test_setting_an_attribute_raises() -> None:
    """A Cron is immutable."""
    with pytest.raises(AttributeError, match="timezone cannot be set"):
        Cron("@daily").timezone = "Europe/Berlin"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("0 7 * * mon-fri", "At 07:00 on Monday through Friday"),
        ("@weekly", "At 00:00 on Sunday"),
        ("*/10 * * * * *", "Every 10th second of every minute"),
        ("15 30 4 * * 5L", "At 04:30:15 on the last Friday of the month"),
    ],
)
def test_explain_supports_nicknames_and_six_fields(expression: str, text: str) -> None:
    """`explain` returns an English text for nicknames and expressions with seconds."""
    assert Cron(expression).explain() == text


def test_middleware_without_cron_does_not_import_time_zones() -> None:
    """The middleware imports its parser of cron and zoneinfo only when a Cron is created."""
    code = (
        "import pulse.middleware, sys;"
        " print({'pulse.schedule.cron', 'zoneinfo'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("0 0 21 * *", "21st"),
        ("0 0 22,23 * *", "the 22nd and the 23rd"),
        ("0 0 11,12,13 * *", "the 11th, the 12th, and the 13th"),
        ("0 0 1-7 * mon", "or on Monday"),
        ("*/45 * * * *", "At minutes 0 and 45 of every hour"),
        ("*/15 */5 * * *", "Every 15th minute past hours 0, 5, 10, 15, and 20"),
        ("0 0 1 */5 *", "of January, June, and November"),
    ],
)
def test_explain_names_ordinals_days_and_uneven_steps(expression: str, text: str) -> None:
    """Ordinals are correct, day fields are joined by "or", and uneven steps are listed."""
    assert text in Cron(expression).explain()
