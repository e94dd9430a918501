from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND, instant_of
from pulse.core.policies import Misfire
from pulse.errors import BadValueError
from pulse.settings import converters

if TYPE_CHECKING:
    from collections.abc import Callable

CENTURY = 100 * 366 * 86_400 * SECOND
BAD_DURATIONS = [
    "",
    " ",
    "x",
    "5x",
    "5 m x",
    "m",
    "1h30",
    "1,5",
    "-5",
    "1e3",
    "٣",
    "5µs",
    None,
    True,
    b"5",
    [5],
    float("nan"),
    float("inf"),
    -1,
    "101y",
    "40000d",
    10**30,
    Decimal(5),
]


@pytest.mark.parametrize("word", ["true", "True", " YES ", "on", "y", "t", "1", True, 1], ids=repr)
def test_words_that_mean_true(word: object) -> None:
    """A boolean is written as paste users write it."""
    assert converters.boolean(word) is True


@pytest.mark.parametrize(
    "word", ["false", "False", " NO ", "off", "n", "f", "0", False, 0], ids=repr
)
def test_words_that_mean_false(word: object) -> None:
    """A boolean is written as paste users write it."""
    assert converters.boolean(word) is False


@pytest.mark.parametrize("word", ["", "maybe", "2", None, "truee", b"true"], ids=repr)
def test_other_words_are_no_booleans(word: object) -> None:
    """What is neither true nor false is refused instead of guessed."""
    with pytest.raises(BadValueError, match="expected true or false"):
        converters.boolean(word)


@pytest.mark.parametrize(
    ("word", "seconds"),
    [
        (300, 300),
        ("300", 300),
        (" 300 ", 300),
        (0.25, 0.25),
        ("0.25", 0.25),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5_400),
        ("1 h 30 m", 5_400),
        ("1H30M", 5_400),
        ("2d", 172_800),
        ("1w", 604_800),
        ("1.5h", 5_400),
        ("250ms", 0.25),
        ("1s1us", 1.000001),
        (timedelta(minutes=5), 300),
    ],
    ids=repr,
)
def test_durations(word: object, seconds: float) -> None:
    """Seconds, spelt durations and timedeltas mean the same span."""
    assert converters.duration(word) == round(seconds * SECOND)


@pytest.mark.parametrize("word", [*BAD_DURATIONS, 0, "0", "0s", timedelta(0)], ids=repr)
def test_what_is_no_duration_is_refused(word: object) -> None:
    """The message says what a duration looks like."""
    with pytest.raises(BadValueError, match="expected seconds as a number, or a duration such as"):
        converters.duration(word)


@pytest.mark.parametrize("word", [0, "0", "0s", timedelta(0), 0.0], ids=repr)
def test_zero_is_a_duration_where_it_may_be(word: object) -> None:
    """A grace or a drain may be none at all."""
    assert converters.duration_or_zero(word) == 0


@pytest.mark.parametrize("word", [*BAD_DURATIONS, timedelta(-1)], ids=repr)
def test_what_is_no_duration_is_no_zero_either(word: object) -> None:
    """Where zero may be, nonsense may not."""
    with pytest.raises(BadValueError, match="expected seconds as a number"):
        converters.duration_or_zero(word)


@given(st.integers(1, CENTURY))
def test_a_spelt_span_reads_back(span: int) -> None:
    """The canonical spelling loses nothing, down to the microsecond."""
    assert converters.duration(converters.spell_span(span)) == span


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    """No text makes a converter fail in another way."""
    with suppress(BadValueError):
        assert 0 < converters.duration(text) <= CENTURY


@pytest.mark.parametrize(
    ("span", "spelt"),
    [(0, "0s"), (300 * SECOND, "5m"), (5_400 * SECOND, "1h30m"), (250_000, "250ms"), (7, "7us")],
)
def test_spans_are_spelt_as_people_do(span: int, spelt: str) -> None:
    """The largest units come first, and zeros are left out."""
    assert converters.spell_span(span) == spelt


@pytest.mark.parametrize(("word", "number"), [("1", 1), (" 10 ", 10), (5, 5)], ids=repr)
def test_counts(word: object, number: int) -> None:
    """A whole number within its limits is taken, limits included."""
    assert converters.count(1, 10)(word) == number


@pytest.mark.parametrize(
    "word", ["0", 11, "x", "", 1.5, "1.5", None, True, "1_0", "٣", "9" * 30], ids=repr
)
def test_what_is_no_count_is_refused(word: object) -> None:
    """The message names the limits."""
    with pytest.raises(BadValueError, match="expected a whole number from 1 to 10, got"):
        converters.count(1, 10)(word)


@pytest.mark.parametrize("word", ["all", " ALL ", Misfire.ALL], ids=repr)
def test_choices(word: object) -> None:
    """A word of the set is taken in any case, and so is its value."""
    assert converters.choice(Misfire)(word) is Misfire.ALL


def test_a_misspelt_choice_is_told_the_nearest() -> None:
    """The message lists the set and guesses."""
    with pytest.raises(BadValueError) as caught:
        converters.choice(Misfire)("latets")
    assert str(caught.value) == (
        "expected one of latest, skip, all, got 'latets'; did you mean 'latest'?"
    )


@pytest.mark.parametrize(
    "value",
    [
        "2027-01-01T00:00:00+01:00",
        " 2026-12-31T23:00:00Z ",
        "2026-12-31 23:00",
        datetime(2026, 12, 31, 23, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    ],
    ids=str,
)
def test_instants(value: object) -> None:
    """Text without an offset is UTC; aware datetimes are taken as they are."""
    assert converters.instant(value) == instant_of(datetime(2026, 12, 31, 23, tzinfo=UTC))


@pytest.mark.parametrize("value", ["", "soon", "2027-13-01", None, 5], ids=repr)
def test_what_is_no_instant_is_refused(value: object) -> None:
    """The message shows the form."""
    with pytest.raises(BadValueError, match="expected a date and time such as 2027-01-01T"):
        converters.instant(value)


def test_a_naive_datetime_is_no_instant() -> None:
    """In code the zone must be said."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone"):
        converters.instant(datetime(2027, 1, 1))  # noqa: DTZ001 - that is the point


@pytest.mark.parametrize(("word", "method"), [("get", "GET"), (" Post ", "POST"), ("M-X", "M-X")])
def test_methods(word: str, method: str) -> None:
    """A method is a token, in upper case."""
    assert converters.method(word) == method


@pytest.mark.parametrize("word", ["", "GET /", "GE\nT", "GÉT", None, b"GET"], ids=repr)
def test_what_is_no_method_is_refused(word: object) -> None:
    """A method with a blank would be a forged request line."""
    with pytest.raises(BadValueError, match="expected an HTTP method such as GET or POST"):
        converters.method(word)


@pytest.mark.parametrize(
    ("value", "body"),
    [("é", b"\xc3\xa9"), (b"\xff", b"\xff"), ("", b""), ("\udcff", b"\xff")],
    ids=ascii,
)
def test_bodies(value: object, body: bytes) -> None:
    """Text is sent as UTF-8, bytes as they are, and bytes that were spelt as text come back."""
    assert converters.body(value) == body


@pytest.mark.parametrize("value", [None, 5, {"a": 1}, "\ud800"], ids=ascii)
def test_what_is_no_body_is_refused(value: object) -> None:
    """A mapping is not turned into JSON behind anybody's back."""
    with pytest.raises(BadValueError, match="expected text or bytes"):
        converters.body(value)


@pytest.mark.parametrize(
    "value",
    [
        "X-A: 1\nX-B: two: 2",
        "\n  X-A: 1\n\n  X-B:two: 2  ",
        {"X-A": "1", "X-B": "two: 2"},
        [("X-A", "1"), ("X-B", "two: 2")],
        (["X-A", "1"], ["X-B", "two: 2"]),
    ],
    ids=["lines", "indented lines", "mapping", "pairs", "pairs as lists"],
)
def test_headers(value: object) -> None:
    """Lines, mappings and pairs declare the same headers."""
    assert converters.headers(value) == (("X-A", "1"), ("X-B", "two: 2"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("X-A", "expected a header line 'Name: value', got 'X-A'"),
        ("X A: 1", "expected a header name such as X-Token, got 'X A'"),
        (": 1", "expected a header name such as X-Token, got ''"),
        ({"X-A": "1\r\nX-B: 2"}, "expected text on one line for header X-A"),
        ({"X-A": "\x7f"}, "expected text on one line for header X-A"),
        ({"X-A": 1}, "expected text on one line for header X-A, got 1"),
        ({1: "X-A"}, "expected a header name such as X-Token, got 1"),
        ([("X-A",)], "expected a pair of header name and value"),
        (["X-A"], "expected a pair of header name and value"),
        (5, "expected headers as a mapping, or lines of 'Name: value', got 5"),
    ],
    ids=repr,
)
def test_bad_headers_are_refused(value: object, message: str) -> None:
    """A header that could forge another one, or that no server would send, is named."""
    with pytest.raises(BadValueError) as caught:
        converters.headers(value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("converter", "value"),
    [
        (converters.boolean, "yes"),
        (converters.choice(Misfire), "skip"),
        (converters.count(1, 5), "3"),
        (converters.method, "put"),
        (converters.body, "é"),
        (converters.headers, "X-A: 1"),
    ],
    ids=["boolean", "choice", "count", "method", "body", "headers"],
)
def test_a_value_may_pass_twice(converter: Callable[[object], object], value: object) -> None:
    """A converter leaves its own result as it is."""
    once = converter(value)
    assert converter(once) == once


@pytest.mark.parametrize("word", ["9" * 5_000, "9" * 400 + "d", "0." + "9" * 400 + "d"], ids=len)
def test_a_number_without_end_is_no_duration(word: str) -> None:
    """It is refused as any other, not by the interpreter's own limits."""
    with pytest.raises(BadValueError, match="expected seconds as a number"):
        converters.duration(word)


@pytest.mark.parametrize("word", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_an_instant_outside_the_calendar_is_refused(word: str) -> None:
    """In UTC it has a year that no date can be written with."""
    with pytest.raises(BadValueError, match="expected a date and time"):
        converters.instant(word)


def test_headers_may_be_any_mapping() -> None:
    """Settings often come in a mapping that cannot be changed."""
    assert converters.headers(MappingProxyType({"X-A": "1"})) == (("X-A", "1"),)
