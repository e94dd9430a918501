"""The errors that pulse raises, and the form of their messages.

A message has the form `key: expected <what>, got <value>`, followed by `did you mean <name>?` for a
misspelt name. Every error derives from `PulseError`.
"""

from __future__ import annotations

import copyreg
import difflib
import re
import reprlib
from enum import Enum
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote

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


class Unshown:
    """Stands in an error for a value that may be secret; shows its type, or a number or None."""

    def __init__(self, value: object) -> None:
        self._value = value if isinstance(value, int | float | None) else None
        self._kind = "" if self._value is value else type(value).__name__

    def __repr__(self) -> str:
        return f"a value of type {self._kind}, not shown here" if self._kind else repr(self._value)


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


def missing_extra(
    key: str, package: str, extra: str, *, cause: Exception | None = None, otherwise: str = ""
) -> MissingExtraError:
    """Return the error about a package that cannot be imported; each extra uses this one text.

    Args:
        key: what needs the package: a setting, with its value if that is no secret.
        package: the package on the index.
        extra: the extra of pulse that installs it.
        cause: the error of the import, if it was tried.
        otherwise: what helps without the package.

    """
    reason = f" ({cause})" if cause else ""
    instead = f", or {otherwise}" if otherwise else ""
    return MissingExtraError(
        f"{key}: expected the package {package}, which is not installed{reason};"
        f" pip install 'pulse[{extra}]', or in a clone of pulse: pip install '.[{extra}]'{instead}"
    )


_SCHEME = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?/*")
_USER = re.compile(r"[^:]*?(?::|%3a)", re.IGNORECASE)
_OPTION_NAME = re.compile(r"(?:^|[?&;,#\s])([^?&;,#=\s]*?)\s*(?:=|%3[dD])\s*")
_OPTION_END = re.compile(r"&|\s+\w+\s*=|$")
_SECRET_NAME = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|api.?key|^auth$", re.IGNORECASE
)
_AUTHORITY = re.compile(r"(^|[^/])//([^/?#@]+)")
_HOSTS = re.compile(r"(?:\[[^]]*\]|[^:\[\],]*)(?::\d*)?(?:,(?:\[[^]]*\]|[^:\[\],]*)(?::\d*)?)*")


def shown_url(url: str) -> str:
    """Return a URL with three asterisks for each password, for logs and errors.

    The URL may be malformed. Everything up to the last `@` counts as part of the password, which
    may hold unescaped slashes; a port that is no number may be a password, too. Options of a query
    and of a connection string count by their names.
    """
    rest, at, host = url.rpartition("@")
    if at:
        url = _without_user_password(rest) + at + host
    return _without_secret_options(_AUTHORITY.sub(_without_odd_port, url, count=1))


def _without_odd_port(authority: re.Match[str]) -> str:
    """Return hosts with three asterisks for what follows the first colon, unless it is a port."""
    hosts = authority[2]
    if _HOSTS.fullmatch(hosts):
        return authority[0]
    return f"{authority[1]}//{hosts.partition(':')[0]}:***"


def _without_user_password(rest: str) -> str:
    """Return the part before the `@` with three asterisks for what follows the user."""
    found = _SCHEME.match(rest)
    start = found.end() if found else 0
    user = _USER.match(rest, start)
    if user:
        return f"{rest[: user.end()]}***"
    is_certain = start == 0 or rest[:start].endswith("//")  # else the scheme may be the user
    return rest if is_certain else f"{rest[:start]}***"


def _without_secret_options(text: str) -> str:
    """Return *text* with three asterisks for each value of an option with a secret name."""
    parts, position = [], 0
    while name := _OPTION_NAME.search(text, position):
        parts.append(text[position : name.end()])
        position = name.end()
        if _SECRET_NAME.search(unquote(name[1])):
            end = _OPTION_END.search(text, position)
            position = end.start() if end else len(text)
            parts.append("***")
    return "".join((*parts, text[position:]))


def shown(value: object) -> str:
    """Return the shortened repr of *value* for an error message, without passwords of URLs."""
    short = _ShortRepr()
    short.maxstring = short.maxother = 80
    return short.repr(value)


class _ShortRepr(reprlib.Repr):
    """Cuts bytes before they are formatted, as `reprlib` does with text, and huge numbers.

    It hides the passwords of URLs in texts.
    """

    def repr_str(self, x: str, level: int) -> str:
        """Return the shortened repr of a text without passwords."""
        hide = shown_url if "//" in x else _without_secret_options
        return super().repr_str(hide(x), level)

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
