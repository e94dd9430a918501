"""Ranges of cron expressions: of one value with a step, and those that fall."""

from __future__ import annotations

import pytest

from pulse.errors import BadValueError
from pulse.schedule.cron import Cron

SPELT_ALIKE = [
    ("5-5/10 * * * *", "5 * * * *"),
    ("0 0 * * mon-mon/2", "0 0 * * mon"),
    ("0 0 1 jan-jan/3 *", "0 0 1 jan *"),
]
"""A range of one value with a step, and the value alone."""

SPELT_APART = [
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
"""The same, where the two ends of the range are spelt differently."""

FALLING = [
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
"""Each end is a value of its field, but the range does not rise."""

STEPS_OF_ZERO = ["*/0 * * * *", "5/0 * * * *", "0 1-5/0 * * *", "0 0 */0 * *", "0 0 * * 1-5/0"]


def refusal(expression: str) -> str:
    """Return what the error of a bad expression says."""
    with pytest.raises(BadValueError) as refused:
        Cron(expression)
    return str(refused.value)


@pytest.mark.parametrize(("spelt", "alone"), SPELT_ALIKE)
def test_a_range_of_one_value_with_a_step_is_that_value(spelt: str, alone: str) -> None:
    """No step leads from the only value of a range to another one."""
    assert Cron(spelt) == Cron(alone)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize(("spelt", "alone"), SPELT_APART)
def test_a_range_of_one_value_spelt_in_two_ways_is_that_value(spelt: str, alone: str) -> None:
    """The values of both ends count, not their texts."""
    assert Cron(spelt) == Cron(alone)


@pytest.mark.parametrize("expression", [*FALLING, *STEPS_OF_ZERO])
def test_a_falling_range_and_a_step_of_zero_are_refused(expression: str) -> None:
    """The error quotes the expression."""
    assert repr(expression) in refusal(expression)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("expression", FALLING)
def test_the_error_for_a_falling_range_says_that_a_range_rises(expression: str) -> None:
    """Both ends are good values, so "from 0 to 23" does not name the mistake."""
    message = refusal(expression)

    assert "range" in message or "rise" in message


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("expression", STEPS_OF_ZERO)
def test_the_error_for_a_step_of_zero_names_the_step(expression: str) -> None:
    """The range of the field does not name the mistake."""
    assert "step" in refusal(expression)
