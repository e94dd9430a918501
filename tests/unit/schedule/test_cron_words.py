"""`Cron.explain` agrees with the fire times of the expression."""

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
"""One day field spells its whole range without `*`, so a day that matches either field fires."""

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
"""A step that leaves the first value alone, and the ordinal that no fire time has."""


def days_of(cron: Cron) -> set[str]:
    """Return the days of the year 2027 on which *cron* fires."""
    found = set()
    moment = cron.next(NEW_YEAR - timedelta(seconds=1))
    while moment is not None and moment.year == NEW_YEAR.year:
        found.add(f"{moment:%m-%d}")
        moment = cron.next(moment)
    return found


@pytest.mark.parametrize("expression", FULL_RANGES)
def test_a_full_day_range_beside_another_day_fires_every_day(expression: str) -> None:
    """The day fields are joined by "or" where neither begins with `*`."""
    assert len(days_of(Cron(expression))) == 365


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("expression", FULL_RANGES)
def test_explain_of_a_full_day_range_agrees_with_its_fire_times(expression: str) -> None:
    """The words say "every day", or name both day fields with "or" between them."""
    words = Cron(expression).explain()

    assert "every day" in words or " or " in words


@pytest.mark.parametrize(("step", "listed"), UNEVEN)
def test_an_uneven_step_means_the_values_that_it_reaches(step: str, listed: str) -> None:
    """The step and the list of its values are equal expressions."""
    assert Cron(step) == Cron(listed)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize(("step", "listed"), UNEVEN)
def test_explain_of_an_uneven_step_names_its_values(step: str, listed: str) -> None:
    """The distance between two fire times is not the step everywhere, so the words list them."""
    assert Cron(step).explain() == Cron(listed).explain()


def words_or_refusal(expression: str) -> str:
    """Return the words of an expression, or an empty text where the expression is refused."""
    try:
        return Cron(expression).explain()
    except BadValueError:
        return ""


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize(("expression", "ordinal"), TOO_LONG)
def test_a_step_beyond_its_field_is_refused_or_explained_as_one_value(
    expression: str, ordinal: str
) -> None:
    """Such a step reaches the first value alone; the words name no ordinal of the step."""
    assert not re.search(rf"\b{ordinal}\b", words_or_refusal(expression))
