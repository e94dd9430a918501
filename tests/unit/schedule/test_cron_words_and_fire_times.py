"""Properties: the description of a cron expression names the times at which it fires."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pulse.clock import DAY, SECOND, Instant, instant_of
from pulse.errors import BadValueError
from pulse.schedule.cron import Cron
from tests.support import cron_words

FIRST_DAY = date(2027, 11, 1)
DAYS = [FIRST_DAY + timedelta(days=number) for number in range(427)]
"""The last two months of a year and the leap year that follows."""

MAX_LISTED = 2_000
NAMES = {
    7: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    12: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
}


def midnight(day: date) -> Instant:
    """Return the instant at which a day begins in UTC."""
    return instant_of(datetime(day.year, day.month, day.day, tzinfo=UTC))


@st.composite
def values(draw: st.DrawFn, low: int, high: int) -> str:
    """Draw a number of a field, or its name, with or without a leading zero."""
    number = draw(st.integers(low, high))
    names = NAMES.get(high, [])
    if number - low < len(names) and draw(st.booleans()):
        return names[number - low]
    return draw(st.sampled_from([str(number), f"{number:02d}"]))


@st.composite
def terms(draw: st.DrawFn, low: int, high: int) -> str:
    """Draw a term of a field: a star, a number or a range, with or without a step."""
    bounds = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    span = "-".join(map(str, bounds))
    start = draw(st.sampled_from(["*", span, f"{low}-{high}", draw(values(low, high))]))
    step = draw(st.none() | st.integers(1, high + 2))
    return start if step is None else f"{start}/{step}"


def fields(low: int, high: int, *special: str) -> st.SearchStrategy[str]:
    """Draw a field of one to three terms."""
    term = terms(low, high)
    if special:
        term |= st.sampled_from(special)
    return st.just("*") | values(low, high) | st.lists(term, min_size=1, max_size=3).map(",".join)


expressions = st.tuples(
    st.just("0") | fields(0, 59),
    fields(0, 59),
    fields(0, 23),
    fields(1, 31, "L", "LW"),
    fields(1, 12),
    fields(0, 7, "5#2", "0#5", "mon#1", "5L", "0L"),
).map(" ".join)


def fire_times_of_a_day(cron: Cron, day: date) -> tuple[int, set[int]]:
    """Return how often a cron fires on a day, and some of the times, as seconds of the day."""
    start = midnight(day)
    first = cron.first(start)
    if first is None or first >= start + DAY:
        return 0, set()
    count = cron.due(first, start + DAY - 1, anchor=0).count
    found, fire_time = set(), first
    while fire_time < start + DAY and len(found) < MAX_LISTED:
        found.add((fire_time - start) // SECOND)
        fire_time = cron.next_after(fire_time, anchor=0) or start + DAY
    return count, found


def fires_on(cron: Cron, day: date) -> bool:
    """Return whether a cron fires on a day."""
    start = midnight(day)
    first = cron.first(start)
    return first is not None and first < start + DAY


@settings(max_examples=100, deadline=None)
@given(expressions)
@example("0 0 0 1/1 * mon")
@example("0 0 0 13 * 0-7")
@example("0 0 0 13 * */5")
@example("0 */45 * * * *")
@example("0 0 9 * * 5-7/2")
@example("0 0 0 */2 1/13 *")
@example("*/7 3 5 1,L 2 *")
def test_description_names_the_fire_times(expression: str) -> None:
    """An independent reader of the text finds the days and the times of day of the cron."""
    try:
        cron = Cron(expression)
    except BadValueError as error:
        assume("some day" not in str(error))
        raise
    described = cron_words.read(cron.explain(), DAYS)

    assert described.days == {day for day in DAYS if fires_on(cron, day)}
    for day in sorted(described.days)[:1]:
        count, found = fire_times_of_a_day(cron, day)
        assert count == len(described.times)
        assert found == set(sorted(described.times)[:MAX_LISTED])


@given(expressions)
def test_description_has_no_wrong_ordinal(expression: str) -> None:
    """Such as 21th or 11st."""
    try:
        text = Cron(expression).explain()
    except BadValueError:
        return

    assert not re.search(r"(?<!1)(1(?!st)|2(?!nd)|3(?!rd))(st|nd|rd|th)\b|1[123](st|nd|rd)", text)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("0 0 1-31 * mon", "At 00:00 every day"),
        ("0 0 1,L * *", "At 00:00 on the first and the last day of month"),
        ("0 0 */2 * *", "At 00:00 on every second day of month from 1 through 31"),
        ("0 0 */7 * *", "At 00:00 on the first, the eighth, the 15th, the 22nd, and the 29th day"),
        ("0 0 * */5 *", "At 00:00 every day in January, June, and November"),
        ("0 0 * 1-3 *", "At 00:00 every day in every month from January through March"),
        ("0 0 13 * fri", "At 00:00 on the 13th day of month or on Friday"),
        ("0 0 */13 * fri", "day of month if it's on Friday"),
        ("0 0 * * 6-7", "At 00:00 on Saturday and Sunday"),
        ("0-59/61 * * * *", "At the start of every hour"),
        ("30 5 * * * *", "At second 30 at minute 5 past every hour"),
        ("0-10 0 * * *", "Every minute from 00:00 through 00:10"),
    ],
)
def test_description_of_special_forms(expression: str, text: str) -> None:
    """Full ranges, uneven steps, and days that are joined."""
    assert text in Cron(expression).explain()
