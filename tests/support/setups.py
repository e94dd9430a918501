"""Checks of a test's set-up, and errors as values.

A test of a known fault is expected to fail by an assertion. A wrong set-up must not count as that
failure: `require` fails the test whatever mark it has.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def require(condition: object, what: str) -> None:
    """Fail the test if its set-up is wrong; an `xfail` mark with `raises` does not excuse it."""
    if not condition:
        pytest.fail(f"the set-up of the test is wrong: expected {what}")


@contextmanager
def setting_up() -> Iterator[None]:
    """Fail the test if its set-up raises an AssertionError, as `require` does."""
    try:
        yield
    except AssertionError as error:
        pytest.fail(f"the set-up of the test failed: {error}")


def error_of(call: Callable[..., object], *args: object, **keywords: object) -> Exception | None:
    """Return the error that a call raises, or None."""
    try:
        call(*args, **keywords)
    except Exception as error:  # noqa: BLE001 - the caller judges it
        return error
    return None
