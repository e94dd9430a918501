"""The text of an exception is bounded before it is copied."""

from __future__ import annotations

import traceback
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SystemClock
from pulse.core.error_text import LONGEST_TRACEBACK, bounded, message_of, traceback_text
from pulse.engine.in_flight import InFlightRun
from pulse.errors import BadValueError, shown
from pulse.testing.sample_runs import make_claim

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 1_000_000


class SilentError(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        """Fail."""
        raise RuntimeError


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """Return an error with frames, and a cause."""
    try:
        raise error from cause  # noqa: TRY301 - the test needs its frames
    except BaseException as caught:  # noqa: BLE001 - the test needs its frames
        return caught


def chain(length: int) -> BaseException:
    """Return an error with many causes."""
    error: BaseException = raised(ValueError("the first"))
    for number in range(length):
        error = raised(RuntimeError(f"number {number}"), error)
    return error


USUAL = {
    "one": lambda: raised(ValueError("no")),
    "a cause": lambda: raised(ValueError("no"), raised(KeyError("why"))),
    "a group": lambda: raised(ExceptionGroup("both", [ValueError("a"), TypeError("b")])),
    "syntax": lambda: raised(SyntaxError("bad", ("f.py", 3, 2, "x = = 1\n"))),
}


@pytest.mark.parametrize("make", USUAL.values(), ids=USUAL)
def test_usual_traceback_is_that_of_python(make: Callable[[], BaseException]) -> None:
    """Nothing is cut, and groups and syntax errors have their own form."""
    error = make()
    assert traceback_text(error) == "".join(traceback.format_exception(error)).rstrip()


HUGE = {
    "one": lambda: raised(ValueError("x" * LONG)),
    "a cause": lambda: raised(ValueError("no"), raised(KeyError("x" * LONG))),
    "a note": lambda: noted(raised(ValueError("no"))),
    "a group": lambda: raised(ExceptionGroup("both", [ValueError("x" * LONG)] * 100)),
    "a long chain": lambda: chain(2_000),
}


def noted(error: BaseException) -> BaseException:
    """Return an error with a long note."""
    error.add_note("x" * LONG)
    return error


@pytest.mark.parametrize("make", HUGE.values(), ids=HUGE)
def test_huge_exception_is_formatted_in_bounded_memory(make: Callable[[], BaseException]) -> None:
    """The text begins like each traceback, and names the type of the error."""
    error = make()
    tracemalloc.start()
    text = traceback_text(error)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(text) <= LONGEST_TRACEBACK + 100
    assert text.startswith("Traceback (most recent call last):\n")
    assert peak < 3 * LONG


def test_exception_of_a_huge_text_that_leaves_an_engine_is_bounded() -> None:
    """An engine formats what leaves a run."""
    run = InFlightRun(make_claim("quick"), 0)
    result = run.result_of(raised(ValueError("x" * LONG)), SystemClock())
    assert len(result.message) <= LONGEST_TRACEBACK + 100


def test_exception_without_a_text_is_formatted() -> None:
    """An exception of the application may fail to describe itself."""
    assert "SilentError" in traceback_text(raised(SilentError()))
    assert "SilentError" in traceback_text(raised(SilentError(), ValueError("x" * LONG)))
    assert message_of(SilentError()) != ""


@pytest.mark.parametrize("size", [0, 1, LONGEST_TRACEBACK, LONGEST_TRACEBACK + 1, LONG])
def test_bounded_text_states_how_much_is_missing(size: int) -> None:
    """The kept and the missing characters are all characters."""
    text = bounded("x" * size)
    missing = int(text.partition("[... ")[2].partition(" ")[0] or 0)
    assert text.count("x") - ("[..." in text) * "characters left out".count("x") + missing == size


@pytest.mark.parametrize(
    "value",
    [b"x" * LONG, "x" * LONG, [b"x" * LONG] * 3, 10**100_000],
    ids=["bytes", "text", "list", "int"],
)
def test_huge_value_is_shown_briefly(value: object) -> None:
    """A value in an error is cut before it is formatted."""
    tracemalloc.start()
    text = shown(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(text) < 400
    assert peak < LONG // 10
    assert text in str(BadValueError("something else", value))


def test_short_bytes_are_shown_as_they_are() -> None:
    """Nothing is cut or repeated."""
    assert shown(b"abc") == "b'abc'"
