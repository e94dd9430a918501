"""Every error that pulse raises, and the one form of their messages.

A message reads `key: expected <what>, got <value>`; where a word was misspelt it goes on with
`did you mean <word>?`. Everything derives from `PulseError`.
"""

from __future__ import annotations

import copyreg
import difflib
import reprlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class PulseError(Exception):
    """Any error that pulse itself raises."""

    def __reduce__(self) -> tuple[object, ...]:
        """Let it pass between processes as it is: what it was made from is not kept."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined] # in no stub


class ConfigError(PulseError, ValueError):
    """One or more settings are wrong; `problems` holds one sentence for each.

    All problems of one configuration are raised together.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("\n".join(self.problems))


class BadValueError(PulseError, ValueError):
    """A value does not fit its setting; the caller adds the key that names it."""

    def __init__(self, expected: str, got: object, *, hint: str = "") -> None:
        self.expected = expected
        self.hint = hint
        super().__init__(f"expected {expected}, got {shown(got)}{hint}")


class MissingExtraError(PulseError, ImportError):
    """A mode or store needs a package that is not installed; the message names the extra."""


class StoreError(PulseError):
    """The store could not do what was asked of it."""


class StoreUnavailableError(StoreError):
    """The store does not answer now; the same call may succeed later."""


class StoreInUseError(StoreError):
    """This process has already opened the same store under the same name."""


class StoreSchemaError(StoreError):
    """The store was written by another version of pulse, whose layout this one cannot use."""


class NotServingError(PulseError):
    """The scheduler does not run in this process, or not yet, and cannot be reached from it."""


class EngineError(PulseError):
    """An engine cannot run with the given settings in this process."""


class RefusedError(PulseError):
    """A request from outside came to a view that answers pulse alone, in an unknown framework."""


class TravelError(PulseError):
    """The test kit cannot travel so: no pulse is found, it has begun already, or a run travels."""


class TaskExistsError(PulseError, ValueError):
    """A task of that name was added before; `replace=True` puts another one in its place."""


class ConfigTaskError(PulseError, ValueError):
    """The configuration declares the task, so it is not added, replaced or removed at run time."""


class UnknownTaskError(PulseError, LookupError):
    """No task of that name is known to the store."""


def shown(value: object) -> str:
    """Return *value* as an error message shows it: its repr, shortened."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    return short.repr(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known word nearest to *word*, or an empty string."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
