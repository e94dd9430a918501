from __future__ import annotations

import inspect
import pickle

import pytest

from pulse import errors
from pulse.errors import (
    BadValueError,
    ConfigError,
    MissingExtraError,
    PulseError,
    UnknownTaskError,
    did_you_mean,
    shown,
)

ERRORS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_derives_from_pulse_error(kind: type[Exception]) -> None:
    """`except PulseError` catches every error of pulse."""
    assert issubclass(kind, PulseError)


def test_config_error_contains_one_sentence_for_each_problem() -> None:
    """The text of the error has a line for each problem."""
    error = ConfigError(iter(["a: wrong", "b: wrong"]))
    assert error.problems == ("a: wrong", "b: wrong")
    assert str(error) == "a: wrong\nb: wrong"


def test_bad_value_error_contains_expectation_and_value() -> None:
    """The caller adds the key."""
    error = BadValueError("a text", 5, hint="; did you mean 'five'?")
    assert str(error) == "expected a text, got 5; did you mean 'five'?"
    assert error.expected == "a text"


def test_shown_truncates_a_long_value() -> None:
    """The message stays readable."""
    assert len(shown("x" * 10_000)) <= 80


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gevnt", "; did you mean 'gevent'?"),
        ("GEVENT", "; did you mean 'gevent'?"),
        ("zzz", ""),
    ],
)
def test_did_you_mean_suggests_only_similar_names(name: str, expected: str) -> None:
    """Without a similar name, the result is empty."""
    assert did_you_mean(name, ["gevent", "threading"]) == expected


@pytest.mark.parametrize(
    "error",
    [
        PulseError("a"),
        ConfigError(["a: b", "c: d"]),
        BadValueError("a number", print, hint="; did you mean 5?"),
        MissingExtraError("a package"),
        UnknownTaskError("no such task"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_pickle_restores_message_and_attributes(error: PulseError) -> None:
    """An error can be sent to another process."""
    restored = pickle.loads(pickle.dumps(error))  # noqa: S301 - a pickle of the test
    assert (type(restored), str(restored), vars(restored)) == (type(error), str(error), vars(error))
