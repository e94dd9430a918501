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


@pytest.mark.parametrize("value", ["true", "True", " YES ", "on", "y", "t", "1", True, 1], ids=repr)
def test_boolean_accepts_texts_for_true(value: object) -> None:
    """The accepted texts are those of PasteDeploy users, in any case."""
    assert converters.boolean(value) is True


@pytest.mark.parametrize(
    "value", ["false", "False", " NO ", "off", "n", "f", "0", False, 0], ids=repr
)
def test_boolean_accepts_texts_for_false(value: object) -> None:
    """The accepted texts are those of PasteDeploy users, in any case."""
    assert converters.boolean(value) is False


@pytest.mark.parametrize("value", ["", "maybe", "2", None, "truee", b"true"], ids=repr)
def test_boolean_rejects_other_values(value: object) -> None:
    """An unknown value is rejected."""
    with pytest.raises(BadValueError, match="expected true or false"):
        converters.boolean(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
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
def test_duration_accepts_seconds_text_and_timedelta(value: object, seconds: float) -> None:
    """Seconds, texts and timedeltas are converted to the same span."""
    assert converters.duration(value) == round(seconds * SECOND)


@pytest.mark.parametrize("value", [*BAD_DURATIONS, 0, "0", "0s", timedelta(0)], ids=repr)
def test_duration_rejects_other_values(value: object) -> None:
    """The error shows the expected forms."""
    with pytest.raises(BadValueError, match="expected seconds as a number, or a duration such as"):
        converters.duration(value)


@pytest.mark.parametrize("value", [0, "0", "0s", timedelta(0), 0.0], ids=repr)
def test_duration_or_zero_accepts_zero(value: object) -> None:
    """A grace or a drain may be zero."""
    assert converters.duration_or_zero(value) == 0


@pytest.mark.parametrize("value", [*BAD_DURATIONS, timedelta(-1)], ids=repr)
def test_duration_or_zero_rejects_other_values(value: object) -> None:
    """An invalid duration is not zero."""
    with pytest.raises(BadValueError, match="expected seconds as a number"):
        converters.duration_or_zero(value)


@given(st.integers(1, CENTURY))
def test_text_of_a_span_is_converted_to_the_same_span(span: int) -> None:
    """The text loses no microsecond."""
    assert converters.duration(converters.duration_text(span)) == span


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_raises_bad_value_error(text: str) -> None:
    """No text raises an error of another class."""
    with suppress(BadValueError):
        assert 0 < converters.duration(text) <= CENTURY


@pytest.mark.parametrize(
    ("span", "text"),
    [(0, "0s"), (300 * SECOND, "5m"), (5_400 * SECOND, "1h30m"), (250_000, "250ms"), (7, "7us")],
)
def test_text_of_a_span_begins_with_the_largest_unit(span: int, text: str) -> None:
    """Units with a count of zero are omitted."""
    assert converters.duration_text(span) == text


@pytest.mark.parametrize(("value", "number"), [("1", 1), (" 10 ", 10), (5, 5)], ids=repr)
def test_count_accepts_numbers_within_its_limits(value: object, number: int) -> None:
    """The limits are inclusive."""
    assert converters.count(1, 10)(value) == number


@pytest.mark.parametrize(
    "value", ["0", 11, "x", "", 1.5, "1.5", None, True, "1_0", "٣", "9" * 30], ids=repr
)
def test_count_rejects_other_values(value: object) -> None:
    """The error contains the limits."""
    with pytest.raises(BadValueError, match="expected a whole number from 1 to 10, got"):
        converters.count(1, 10)(value)


@pytest.mark.parametrize("value", ["all", " ALL ", Misfire.ALL], ids=repr)
def test_choice_accepts_text_in_any_case_and_members(value: object) -> None:
    """The result is a member of the enum."""
    assert converters.choice(Misfire)(value) is Misfire.ALL


def test_misspelt_choice_is_reported_with_a_suggestion() -> None:
    """The error lists the choices."""
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
def test_instant_accepts_text_and_aware_datetimes(value: object) -> None:
    """A text without offset is in UTC."""
    assert converters.instant(value) == instant_of(datetime(2026, 12, 31, 23, tzinfo=UTC))


@pytest.mark.parametrize("value", ["", "soon", "2027-13-01", None, 5], ids=repr)
def test_instant_rejects_other_values(value: object) -> None:
    """The error shows the expected form."""
    with pytest.raises(BadValueError, match="expected a date and time such as 2027-01-01T"):
        converters.instant(value)


def test_instant_rejects_a_naive_datetime() -> None:
    """A datetime must have a time zone."""
    with pytest.raises(BadValueError, match="expected a datetime with a time zone"):
        converters.instant(datetime(2027, 1, 1))  # noqa: DTZ001 - the test needs a naive datetime


@pytest.mark.parametrize(("value", "method"), [("get", "GET"), (" Post ", "POST"), ("M-X", "M-X")])
def test_method_is_returned_in_upper_case(value: str, method: str) -> None:
    """A method is a token."""
    assert converters.method(value) == method


@pytest.mark.parametrize("value", ["", "GET /", "GE\nT", "GÉT", None, b"GET"], ids=repr)
def test_method_rejects_other_values(value: object) -> None:
    """A method with a blank could forge a request line."""
    with pytest.raises(BadValueError, match="expected an HTTP method such as GET or POST"):
        converters.method(value)


@pytest.mark.parametrize(
    ("value", "body"),
    [("é", b"\xc3\xa9"), (b"\xff", b"\xff"), ("", b""), ("\udcff", b"\xff")],
    ids=ascii,
)
def test_body_accepts_text_and_bytes(value: object, body: bytes) -> None:
    """Text is encoded as UTF-8; surrogate escapes become the original bytes."""
    assert converters.body(value) == body


@pytest.mark.parametrize("value", [None, 5, {"a": 1}, "\ud800"], ids=ascii)
def test_body_rejects_other_values(value: object) -> None:
    """A mapping is not converted to JSON."""
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
def test_headers_accepts_lines_mappings_and_pairs(value: object) -> None:
    """All forms declare the same headers."""
    assert converters.headers(value) == (("X-A", "1"), ("X-B", "two: 2"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("X-A", "expected a header line 'Name: value', got a value of type str"),
        ("X A: 1", "expected a header name such as X-Token, got a value of type str"),
        (": 1", "expected a header name such as X-Token, got a value of type str"),
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
def test_headers_rejects_invalid_headers(value: object, message: str) -> None:
    """A header must not contain another header or characters that servers reject."""
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
def test_converters_accept_their_own_results(
    converter: Callable[[object], object], value: object
) -> None:
    """The result of a converter stays unchanged."""
    once = converter(value)
    assert converter(once) == once


@pytest.mark.parametrize("value", ["9" * 5_000, "9" * 400 + "d", "0." + "9" * 400 + "d"], ids=len)
def test_duration_rejects_a_very_long_number(value: str) -> None:
    """The error is not the digit limit of the interpreter."""
    with pytest.raises(BadValueError, match="expected seconds as a number"):
        converters.duration(value)


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_instant_rejects_an_instant_outside_the_range_of_datetime(value: str) -> None:
    """The year of the instant in UTC is not representable."""
    with pytest.raises(BadValueError, match="expected a datetime of the years 1 to 9999"):
        converters.instant(value)


def test_headers_accepts_any_mapping() -> None:
    """An immutable mapping is accepted."""
    assert converters.headers(MappingProxyType({"X-A": "1"})) == (("X-A", "1"),)


@pytest.mark.parametrize("value", ["1h30m", "2d 12h", "1m30s500ms"])
def test_duration_accepts_different_units(value: str) -> None:
    """The parts of different units are added."""
    assert converters.duration(value) > 0


@pytest.mark.parametrize("converter", [converters.duration, converters.duration_or_zero])
@pytest.mark.parametrize("value", ["5m5m", "1h 1h", "1m0.5m", "1h1m1h", "2d1d", "1ms1ms", "1s 0s"])
def test_duration_rejects_a_repeated_unit(value: str, converter: Callable[[object], int]) -> None:
    """A repeated unit such as in `5m5m` is probably a typing error."""
    accepted = None
    with suppress(BadValueError):
        accepted = converter(value)

    assert accepted is None
