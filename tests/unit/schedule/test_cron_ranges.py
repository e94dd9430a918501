"""Ranges of cron expressions: ranges of one value with a step, and descending ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize("expression", DESCENDING)
def test_error_of_a_descending_range_names_the_range(expression: str) -> None:
    """Both ends are valid values, so the range of the field is not the mistake."""
    message = error_text(expression)

    assert "range" in message or "rise" in message


@pytest.mark.parametrize("expression", ZERO_STEPS)
def test_error_of_a_step_of_zero_names_the_step(expression: str) -> None:
    """The range of the field is not the mistake."""
    assert "step" in error_text(expression)


REMEDIES = [
    ("0 22-2 * * *", "22-23,0-2"),
    ("0 23-2 * * *", "23,0-2"),
    ("0 22-0 * * *", "22-23,0"),
    ("0 22-2/2 * * *", "22,0,2"),
    ("30-10 * * * *", "30-59,0-10"),
    ("0 0 31-1 * *", "31,1"),
    ("0 0 * nov-feb *", "nov-dec,jan-feb"),
    ("0 0 * dec-1 *", "dec,1"),
    ("0 9 * * sat-sun", "sat-7"),
    ("0 9 * * fri-mon", "fri-7,mon"),
    ("0 9 * * sat-tue", "sat-7,mon-tue"),
    ("0 9 * * 6-1", "6-7,1"),
    ("0 9 * * fri-mon/2", "5,0"),
]
"""A descending range, and the text that selects its values."""


@pytest.mark.parametrize(("expression", "remedy"), REMEDIES)
def test_error_of_a_descending_range_contains_a_valid_range(expression: str, remedy: str) -> None:
    """The remedy can be copied into the expression."""
    message = error_text(expression)
    (term,) = (term for term in expression.split() if "-" in term)

    assert message.endswith(f"got {term!r}; write {remedy}")
    assert Cron(expression.replace(term, remedy)).first(0) is not None


BOUNDS = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]


@given(st.integers(0, 5), st.data())
def test_remedy_of_a_descending_range_selects_the_values_of_the_range(
    index: int, data: st.DataObject
) -> None:
    """The values from the first end on, with a step, past the end of the field."""
    low, high = BOUNDS[index]
    first = data.draw(st.integers(low + 1, high))
    last = data.draw(st.integers(low, first - 1))
    step = data.draw(st.none() | st.integers(1, 7))
    fields = ["0"] * 3 + ["*"] * 3
    fields[index] = f"{first}-{last}" + ("" if step is None else f"/{step}")
    remedy = error_text(" ".join(fields)).partition("; write ")[2]
    size = high - low + 1
    values = {low + (n - low) % size for n in range(first, last + size + 1, step or 1)}
    remedied, listed = list(fields), list(fields)
    remedied[index], listed[index] = remedy, ",".join(map(str, values))

    assert Cron(" ".join(remedied)) == Cron(" ".join(listed))


@pytest.mark.parametrize(
    "term",
    [
        *("L/2", "LW/3", "1-L", "L-1", "LW-1", "15W", "L-3", "1W", "C", "?,1", "H", "H/5", "R"),
        *("", ",", "1,", ",1", "1,,2", "-", "-5", "5-", "1--5", "1-5-9", "/", "/5", "5/", "*/"),
        *("**", "*5", "5*", "*-5", "5-*", "*/5/2", "5/5/5", "1-5/", "*/-5", "*/5-9", "*/*", "5/*"),
        *(
            "*/x",
            "+5",
            "5.0",
            "1e1",
            "0x5",
            "\u0665",
            "\uff15",
            "5_0",
            "~",
            "1~5",
            "#1",
            "5#",
            "@5",
        ),
        *("32", "0", "00", "99999999999999999999", "1-32", "0-5", "first", "mon", "jan"),
    ],
)
def test_day_of_month_in_another_form_is_rejected(term: str) -> None:
    """The error names the field, its values, the expression and the text of the field."""
    expression = f"0 0 {term} * *"
    message = "five fields" if not term or term == "?" else "expected a day of month from 1 to 31"

    assert message in error_text(expression)


@pytest.mark.parametrize(
    "term",
    [
        *(
            "L",
            "LW",
            "5L/2",
            "1-5L",
            "monL",
            "5#0",
            "5#6",
            "5#1#2",
            "5#1/2",
            "1-5#2",
            "5#-1",
            "5#L",
        ),
        *("8", "7-8", "mon-", "monday", "mo", "m", "sun-mon-tue", "8L", "8#1", "*#1", "*L", "LL"),
    ],
)
def test_day_of_week_in_another_form_is_rejected(term: str) -> None:
    """Special days have no step and are in no range."""
    assert "expected a day of week from 0 to 7" in error_text(f"0 0 * * {term}")


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("0 0 * * fri#2", "0 0 * * 5#2"),
        ("0 0 * * 7#2", "0 0 * * 0#2"),
        ("0 0 * * 5#02", "0 0 * * 5#2"),
        ("0 0 * * 7L", "0 0 * * 0L"),
        ("00 007 01 JAN Sun", "0 7 1 1 0"),
        ("5/60 * * * *", "5 * * * *"),
        ("*/1 * * * *", "* * * * *"),
    ],
)
def test_other_writings_of_a_value_are_equal(written: str, same: str) -> None:
    """Names, leading zeros, Sunday as 7, and steps that select one value."""
    assert Cron(written) == Cron(same)
