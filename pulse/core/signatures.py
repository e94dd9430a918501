"""What a function of the application takes, and whether a call of the function runs its body."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def signature_of(
    function: Callable[..., object], *, follow_wrapped: bool = True
) -> inspect.Signature:
    """Return the signature of *function*; an annotation that cannot be evaluated stays a reference.

    Since Python 3.14 (PEP 649) `inspect.signature` evaluates the annotations of a function, and
    raises NameError for a name that is imported under `TYPE_CHECKING` only.

    Raises:
        TypeError: *function* cannot be called.
        ValueError: *function* is a built-in function without a signature.

    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(
            function, follow_wrapped=follow_wrapped, annotation_format=Format.FORWARDREF
        )
    return inspect.signature(function, follow_wrapped=follow_wrapped)


def takes(function: Callable[..., object], *arguments: object, follow_wrapped: bool = True) -> bool:
    """Return whether *function* can be called with *arguments*; True if it has no signature."""
    try:
        signature = signature_of(function, follow_wrapped=follow_wrapped)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def runs_later(function: object) -> bool:
    """Return whether a call of *function* does not run its body."""
    return (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or inspect.isgeneratorfunction(function)
    )
