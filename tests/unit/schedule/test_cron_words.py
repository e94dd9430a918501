"""`Cron.explain` describes the fire times of the expression."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from pulse.errors import BadValueError
from pulse.schedule.cron import Cron

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
FULL_RANGES = [
    "0 0 1/1 * mon",
    "0 0 1-31 * mon",
    "0 0 1-31/1 * fri",
    "0 0 1-31 * 5L",
    "0 0 1-31 * fri#1",
    "0 0 13 * 0-7",
    "0 0 L * 0-7",
    "0 9 LW * 0/1",
]
"""One day field lists its whole range without `*`, so a day that matches either field fires."""

UNEVEN = [
    ("0/45 * * * * *", "0,45 * * * * *"),
    ("0/45 * * * *", "0,45 * * * *"),
    ("0-59/45 * * * *", "0,45 * * * *"),
    ("0 0/7 * * *", "0 0,7,14,21 * * *"),
    ("0 0-23/7 * * *", "0 0,7,14,21 * * *"),
    ("0 0 1 1/5 *", "0 0 1 1,6,11 *"),
    ("0 0 1 1-12/5 *", "0 0 1 1,6,11 *"),
    ("0 0 * * 0/2", "0 0 * * 0,2,4,6"),
    ("0 0 * * 0-6/5", "0 0 * * 0,5"),
]
"""A step that does not divide its field, and the same values in a list."""

TOO_LONG = [
    ("0-59/61 * * * * *", "61st"),
    ("0/61 * * * *", "61st"),
    ("0-59/61 * * * *", "61st"),
    ("0 0/25 * * *", "25th"),
    ("0 0 */31 * *", "31st"),
    ("0 0 */32 * *", "32nd"),
    ("0 0 1 1/13 *", "13th"),
]
"""A step that selects only the first value, and an ordinal that the text must not contain."""


def days_of(cron: Cron) -> set[str]:
    """Return the days of the year 2027 on which *cron* fires."""
    days = set()
    moment = cron.next(NEW_YEAR - timedelta(seconds=1))
    while moment is not None and moment.year == NEW_YEAR.year:
        days.add(f"{moment:%m-%d}")
        moment = cron.next(moment)
    return days


@pytest.mark.parametrize("expression", FULL_RANGES)
def test_full_day_range_with_another_day_field_fires_every_day(expression: str) -> None:
    """The day fields are joined by "or" if neither begins with `*`."""
    assert len(days_of(Cron(expression))) == 365


@pytest.mark.parametrize("expression", FULL_RANGES)
def test_explain_of_a_full_day_range_describes_its_fire_times(expression: str) -> None:
    """The text contains "every day", or joins both day fields with "or"."""
    text = Cron(expression).explain()

    assert "every day" in text or " or " in text


@pytest.mark.parametrize(("step", "listed"), UNEVEN)
def test_uneven_step_equals_the_list_of_its_values(step: str, listed: str) -> None:
    """A step and the list of its values are equal expressions."""
    assert Cron(step) == Cron(listed)


@pytest.mark.parametrize(("step", "listed"), UNEVEN)
def test_explain_of_an_uneven_step_lists_its_values(step: str, listed: str) -> None:
    """The distance between two fire times is not always the step, so the text lists the values."""
    assert Cron(step).explain() == Cron(listed).explain()


def text_or_empty(expression: str) -> str:
    """Return the explanation of an expression, or an empty text if the expression is rejected."""
    try:
        return Cron(expression).explain()
    except BadValueError:
        return ""


@pytest.mark.parametrize(("expression", "ordinal"), TOO_LONG)
def test_step_beyond_its_field_is_rejected_or_explained_as_one_value(
    expression: str, ordinal: str
) -> None:
    """Such a step selects only the first value; the text contains no ordinal of the step."""
    assert not re.search(rf"\b{ordinal}\b", text_or_empty(expression))
