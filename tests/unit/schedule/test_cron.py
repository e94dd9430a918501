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
from pulse.schedule.base import Due
from pulse.schedule.cron import Cron
from tests.support.wall_clock import Fields, every_minute_fields, every_second_fields, field

BERLIN = ZoneInfo("Europe/Berlin")
YEAR = 366 * 86_400 * SECOND
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)


def days_of(expression: str, year: int) -> list[str]:
    """Return the days of a year on which a daily expression fires, as month-day."""
    cron = Cron(expression)
    found = []
    moment = cron.next(datetime(year, 1, 1, tzinfo=UTC) - timedelta(seconds=1))
    while moment is not None and moment.year == year:
        found.append(f"{moment:%m-%d}")
        moment = cron.next(moment)
    return found


def days_where(year: int, test: object) -> list[str]:
    """Return the days of a year that pass a test, as month-day."""
    first = date(year, 1, 1)
    days = (first + timedelta(days=place) for place in range(365 + calendar.isleap(year)))
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
def test_the_day_fields_name_the_days_they_should(expression: str, year: int) -> None:
    """Each form of a day matches the days that its definition says."""
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
def test_a_nickname_is_short_for_an_expression(nickname: str, expression: str) -> None:
    """A nickname means what it does in every cron."""
    assert Cron(nickname) == Cron(expression)


@settings(max_examples=100)
@given(
    fields=every_minute_fields | every_second_fields,
    months=field(1, 12),
    after=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001 - made aware below
)
def test_in_utc_it_agrees_with_cronsim(fields: Fields, months: object, after: datetime) -> None:
    """Where clocks are never changed, two implementations find the same fire times."""
    expression = fields._replace(month=months).text  # type: ignore[arg-type]
    assume(not re.search(r"\b(\d+)-\1/", expression))  # cronsim reads 5-5/10 as 5/10
    moment, cron = after.replace(tzinfo=UTC), Cron(expression)
    expected = list(islice(CronSim(expression, moment), 5))

    found = [moment := cron.next(moment) for _ in expected]  # type: ignore[arg-type]

    assert found == expected


def test_next_takes_any_zone_and_answers_in_its_own() -> None:
    """An aware datetime of another zone is the same instant."""
    after = datetime(2026, 11, 23, 22, 59, tzinfo=ZoneInfo("America/New_York"))

    found = Cron("0 7 * * mon-fri", timezone="Europe/Berlin").next(after)

    assert found == datetime(2026, 11, 24, 7, tzinfo=BERLIN)
    assert found.tzinfo is BERLIN


def test_next_is_strictly_later_to_the_microsecond() -> None:
    """A fire time is not its own successor; a microsecond before it, it is the answer."""
    cron = Cron("0 0 * * *")

    found = [cron.next(NEW_YEAR - timedelta(microseconds=1)), cron.next(NEW_YEAR)]

    assert found == [NEW_YEAR, NEW_YEAR + timedelta(days=1)]


def test_a_naive_datetime_is_refused() -> None:
    """An instant without a zone would be a guess."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone"):
        Cron("@daily").next(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


@pytest.mark.parametrize("early", [0, 1], ids=["at the fire time", "before it"])
def test_the_first_fire_time_is_when_seen_or_later(early: int) -> None:
    """A task that is first seen at its very fire time does not lose it."""
    assert Cron("@daily").first(instant_of(NEW_YEAR) - early) == instant_of(NEW_YEAR)


def test_nothing_is_left_after_the_year_9999() -> None:
    """The calendar of datetimes ends, and the fire times with it."""
    last = datetime(9999, 12, 31, 23, tzinfo=UTC)

    found = [Cron("0 23 * * *").next(moment) for moment in (last - timedelta(1), last)]

    assert found == [last - timedelta(0), None]


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Pacific/Apia", "UTC"])
@pytest.mark.parametrize("expression", ["0 23 31 12 *", "* * * * *", "0 0 29 2 *"])
def test_the_end_of_the_calendar_is_met_in_every_zone(expression: str, zone: str) -> None:
    """In a zone behind UTC the last hours of 9999 are no datetimes of UTC, and do not fire."""
    cron = Cron(expression, timezone=zone)
    moment = datetime(9999, 12, 31, 20, tzinfo=UTC)

    found = [
        cron.next_after(instant_of(moment) + hour * 3_600 * SECOND, anchor=0) for hour in range(9)
    ]

    assert all(
        fire_time is None or fire_time <= instant_of(datetime.max.replace(tzinfo=UTC))
        for fire_time in found
    )
    assert found[-1] is None


@pytest.mark.parametrize("after", [-(2**62), -(2**57)], ids=["floor", "before the calendar"])
def test_what_is_older_than_the_calendar_is_its_beginning(after: int) -> None:
    """The floor of a task that never fired is no error."""
    found = Cron("@yearly", timezone="Europe/Berlin").next_after(after, anchor=0)

    assert found is not None
    assert found < instant_of(datetime(3, 1, 1, tzinfo=UTC))


def test_ten_years_of_seconds_are_counted_exactly() -> None:
    """In UTC the count is that of the seconds."""
    first = instant_of(NEW_YEAR)

    found = Cron("* * * * * *").due(first, first + 10 * YEAR + 1, anchor=0)

    assert found == Due(first + 10 * YEAR, 10 * YEAR // SECOND + 1)


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
        ("@reboot", "say `run_at_start = true`"),
        ("@every 5m", "say `interval`"),
        ("CRON_TZ=Europe/Berlin 0 7 * * *", "the zone is set by `timezone`"),
        ("TZ=UTC 0 7 * * *", "the zone is set by `timezone`"),
        ("0 7 ? * *", "say `*` for `?`"),
        ("1" * 5_000 + " * * * *", "a cron expression such as"),
    ],
    ids=lambda text: text[:30],
)
def test_a_bad_expression_is_refused_with_its_reason(expression: str, message: str) -> None:
    """The error names the field, what it may hold, what came, and the nearest name."""
    with pytest.raises(BadValueError) as refused:
        Cron(expression)

    assert message in str(refused.value)


@given(st.text(max_size=60) | st.text("0123456789*/-,#LW@ ", max_size=60))
def test_whatever_the_text_it_is_an_expression_or_refused(text: str) -> None:
    """No text brings an error of another kind."""
    made = None
    with suppress(BadValueError):
        made = Cron(text)

    assert made is None or made.first(0) is not None


def test_no_text_is_no_expression() -> None:
    """A number is not taken for a minute."""
    with pytest.raises(BadValueError, match="a cron expression such as"):
        Cron(5)  # type: ignore[arg-type]


EQUAL = [
    ("0 7 * * mon-fri", "0  7 * * 1-5"),
    ("0 0 * * 0", "0 0 * * 7"),
    ("5 4 * * *", "0 5 4 * * *"),
    ("0 0 l * *", "0 0 L * *"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_crons_that_mean_the_same_are_equal(one: str, other: str) -> None:
    """A cron is what it means, not how it is written."""
    assert Cron(one) == Cron(other)
    assert hash(Cron(one)) == hash(Cron(other))


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
def test_crons_that_differ_are_not_equal(other: object) -> None:
    """Another time, zone, day or kind is another schedule."""
    assert Cron("0 7 * * mon-fri") != other


def test_a_wildcard_is_not_the_fixed_one_of_the_same_times() -> None:
    """They differ on the nights on which clocks are changed."""
    assert Cron("*/30 2 * * *") != Cron("0,30 2 * * *")


CRONS = [Cron("@daily"), Cron("0 7 * * MON-FRI", timezone="Europe/Berlin")]


@pytest.mark.parametrize("cron", CRONS, ids=repr)
def test_the_repr_is_the_call_that_makes_it(cron: Cron) -> None:
    """A schedule in a log can be pasted into code."""
    assert eval(repr(cron)) == cron  # noqa: S307 - its own repr


@pytest.mark.parametrize("cron", CRONS, ids=repr)
def test_a_cron_passes_between_processes(cron: Cron) -> None:
    """What is pickled is the text, and it means the same there."""
    copy = pickle.loads(pickle.dumps(cron))  # noqa: S301 - its own

    assert (copy, repr(copy)) == (cron, repr(cron))


@pytest.mark.parametrize("cron", CRONS, ids=repr)
def test_a_cron_spelt_is_the_same_cron(cron: Cron) -> None:
    """The settings that it gives declare it."""
    words = cron.spell()

    assert Cron(words["cron"], timezone=words.get("timezone", "UTC")) == cron


def test_utc_is_not_spelt() -> None:
    """A default is left out."""
    assert Cron("0  7 * *  *").spell() == {"cron": "0 7 * * *"}


def test_a_cron_is_frozen() -> None:
    """A schedule that many share cannot be changed under them."""
    with pytest.raises(AttributeError, match="timezone cannot be set"):
        Cron("@daily").timezone = "Europe/Berlin"


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 7 * * mon-fri", "At 07:00 on Monday through Friday"),
        ("@weekly", "At 00:00 on Sunday"),
        ("*/10 * * * * *", "Every 10th second of every minute"),
        ("15 30 4 * * 5L", "At 04:30:15 on the last Friday of the month"),
    ],
)
def test_an_expression_is_explained_in_words(expression: str, words: str) -> None:
    """Nicknames and six fields are explained as well."""
    assert Cron(expression).explain() == words


def test_what_no_cron_needs_is_not_loaded() -> None:
    """The middleware alone loads neither cronsim nor the zones; a Cron does."""
    code = "import pulse.middleware, sys; print({'cronsim', 'zoneinfo'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("expression", "words"),
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
def test_an_expression_is_explained_as_it_is_meant(expression: str, words: str) -> None:
    """Ordinals are right, day fields are joined by "or", and an uneven step is told as it falls."""
    assert words in Cron(expression).explain()
