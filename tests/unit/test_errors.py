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

FAMILY = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, Exception)
]


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_every_error_is_of_the_family(kind: type[Exception]) -> None:
    """One `except PulseError` catches whatever pulse raises."""
    assert issubclass(kind, PulseError)


def test_a_config_error_holds_one_sentence_a_problem() -> None:
    """Its text has a line for each."""
    error = ConfigError(iter(["a: wrong", "b: wrong"]))
    assert error.problems == ("a: wrong", "b: wrong")
    assert str(error) == "a: wrong\nb: wrong"


def test_a_bad_value_says_what_was_expected_and_what_came() -> None:
    """The caller adds the key."""
    error = BadValueError("a word", 5, hint="; did you mean 'five'?")
    assert str(error) == "expected a word, got 5; did you mean 'five'?"
    assert error.expected == "a word"


def test_a_long_value_is_shortened() -> None:
    """A message stays readable whatever came."""
    assert len(shown("x" * 10_000)) <= 80


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("gevnt", "; did you mean 'gevent'?"),
        ("GEVENT", "; did you mean 'gevent'?"),
        ("zzz", ""),
    ],
)
def test_the_nearest_word_is_guessed_or_none(word: str, expected: str) -> None:
    """A guess that is not near is worse than none."""
    assert did_you_mean(word, ["gevent", "threading"]) == expected


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
def test_an_error_passes_between_processes(error: PulseError) -> None:
    """Its words and its attributes arrive as they were."""
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    assert (type(arrived), str(arrived), vars(arrived)) == (type(error), str(error), vars(error))
