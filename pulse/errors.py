"""The errors that pulse raises, and the form of their messages.

A message has the form `key: expected <what>, got <value>`, followed by `did you mean <name>?` for a
misspelt name. Every error derives from `PulseError`.
"""

from __future__ import annotations

import copyreg
import difflib
import reprlib
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class PulseError(Exception):
    """The base class of the errors of pulse."""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the message and the attributes; constructor arguments are not stored."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined] # missing in the stubs


class ConfigError(PulseError, ValueError):
    """One or more settings are invalid; `problems` contains one sentence for each problem.

    One error contains all problems of a configuration.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("\n".join(self.problems))


class BadValueError(PulseError, ValueError):
    """A value is invalid for its setting; the caller adds the key to the message."""

    def __init__(self, expected: str, got: object, *, hint: str = "") -> None:
        self.expected = expected
        self.hint = hint
        super().__init__(f"expected {expected}, got {shown(got)}{hint}")


class MissingExtraError(PulseError, ImportError):
    """A mode or store needs a package that is not installed; the message names the extra."""


class StoreError(PulseError):
    """An operation of the store failed."""


class StoreProblem(Enum):
    """Why a store cannot be used at present."""

    SILENT = "silent"
    REFUSING = "refusing"
    REPLACED = "replaced"


class StoreUnavailableError(StoreError):
    """The store does not respond at present; the same call may succeed later."""

    problem: ClassVar[StoreProblem] = StoreProblem.SILENT


class StoreRefusedError(StoreUnavailableError):
    """The store responds, and refuses: a login, a right, or writes; it may be mended meanwhile."""

    problem: ClassVar[StoreProblem] = StoreProblem.REFUSING


class StoreInUseError(StoreError):
    """This process has already opened the same store with the same name."""


class StoreSchemaError(StoreError):
    """Another version of pulse wrote the store in a layout that this version does not support."""


class StoreFolderError(StoreError):
    """This user cannot write to any folder of the default store; the message names each folder."""


class NotServingError(PulseError):
    """The scheduler does not run, or does not run yet, and this process cannot reach another."""


class EngineError(PulseError):
    """An engine cannot run with the given settings in this process."""


class RefusedError(PulseError):
    """An outsider requested a view of `pulse.only` in an unknown framework."""


class TravelError(PulseError):
    """Time travel is impossible: no pulse was found, pulse has started, or a run travels."""


class TaskExistsError(PulseError, ValueError):
    """A run-time task with this name exists; `replace=True` replaces it."""


class ConfigTaskError(PulseError, ValueError):
    """The configuration declares the task, so run-time calls cannot add, replace or remove it."""


class UnknownTaskError(PulseError, LookupError):
    """The store has no task with this name."""


class UndeclaredTaskError(UnknownTaskError):
    """No live process declares the task, so none would run it; the store still has its row."""


def shown(value: object) -> str:
    """Return the shortened repr of *value* for an error message."""
    short = _ShortRepr()
    short.maxstring = short.maxother = 80
    return short.repr(value)


class _ShortRepr(reprlib.Repr):
    """Cuts bytes before they are formatted, as `reprlib` does with text, and huge numbers."""

    def repr_bytes(self, value: bytes, level: int) -> str:
        """Return the shortened repr of bytes; *level* is how deep they may contain others."""
        if len(value) > 2 * self.maxother:
            value = value[: self.maxother] + value[-self.maxother :]
        return self.repr_instance(value, level)

    def repr_int(self, value: int, level: int) -> str:
        """Return the shortened repr of a number; one of thousands of digits has none."""
        bits = value.bit_length()
        return super().repr_int(value, level) if bits <= _MAX_BITS else f"a number of {bits} bits"


_MAX_BITS = 1_000


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known name most similar to *name*, or an empty text."""
    matches = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""
