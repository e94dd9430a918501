"""Ranges of cron expressions: ranges of one value with a step, and descending ranges."""

from __future__ import annotations

import pytest

from pulse.errors import BadValueError
from pulse.schedule.cron import Cron

SAME_TEXT = [
    ("5-5/10 * * * *", "5 * * * *"),
    ("0 0 * * mon-mon/2", "0 0 * * mon"),
    ("0 0 1 jan-jan/3 *", "0 0 1 jan *"),
]
"""A range of one value with a step, and the value alone."""

DIFFERENT_TEXTS = [
    ("7-07/20 * * * * *", "7 * * * * *"),
    ("5-05/10 * * * *", "5 * * * *"),
    ("05-5/10 * * * *", "5 * * * *"),
    ("0 3-03/6 * * *", "0 3 * * *"),
    ("0 0 2-02/9 * *", "0 0 2 * *"),
    ("0 0 1 jan-1/3 *", "0 0 1 jan *"),
    ("0 0 1 4-apr/2 *", "0 0 1 apr *"),
    ("0 0 * * mon-1/2", "0 0 * * mon"),
    ("0 0 * * 5-fri/1", "0 0 * * fri"),
    ("0 0 * * sun-0/2", "0 0 * * sun"),
]
"""The same, where the two ends of the range are written differently."""

DESCENDING = [
    "50-10 * * * * *",
    "30-10 * * * *",
    "0 22-2 * * *",
    "0 22-2/2 * * *",
    "0 9,22-2 * * *",
    "0 0 31-1 * *",
    "0 0 * nov-feb *",
    "0 9 * * sat-sun",
    "0 9 * * fri-mon",
    "0 9 * * 6-1",
]
"""Each end is a value of its field, but the first end is greater than the second."""

ZERO_STEPS = ["*/0 * * * *", "5/0 * * * *", "0 1-5/0 * * *", "0 0 */0 * *", "0 0 * * 1-5/0"]


def error_text(expression: str) -> str:
    """Return the error text for an invalid expression."""
    with pytest.raises(BadValueError) as raised:
        Cron(expression)
    return str(raised.value)


@pytest.mark.parametrize(("expression", "value"), SAME_TEXT)
def test_range_of_one_value_with_a_step_equals_the_value(expression: str, value: str) -> None:
    """A range of one value contains only this value, whatever the step is."""
    assert Cron(expression) == Cron(value)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize(("expression", "value"), DIFFERENT_TEXTS)
def test_range_of_one_value_written_in_two_ways_equals_the_value(
    expression: str, value: str
) -> None:
    """The values of both ends are compared and not their texts."""
    assert Cron(expression) == Cron(value)


@pytest.mark.parametrize("expression", [*DESCENDING, *ZERO_STEPS])
def test_descending_range_and_step_of_zero_are_rejected(expression: str) -> None:
    """The error quotes the expression."""
    assert repr(expression) in error_text(expression)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("expression", DESCENDING)
def test_error_of_a_descending_range_names_the_range(expression: str) -> None:
    """Both ends are valid values, so the range of the field is not the mistake."""
    message = error_text(expression)

    assert "range" in message or "rise" in message


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("expression", ZERO_STEPS)
def test_error_of_a_step_of_zero_names_the_step(expression: str) -> None:
    """The range of the field is not the mistake."""
    assert "step" in error_text(expression)
