"""The setting `access`: who may read and who may act, by a token, a password or a function.

A rule is kept as it is written; the values of environment variables are read where the rules are
used, so that no secret is in the settings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, Any

import msgspec

from pulse.core.access import Level
from pulse.errors import BadValueError, Unshown

if TYPE_CHECKING:
    from collections.abc import Iterable

EXPECTED = (
    "one rule a line: read token:${NAME}, act token:${NAME}, act basic:USER:HASH (pulse"
    " hash-password makes the hash), or callable:package.module:name"
)
_RULE = re.compile(r"(?:(read|act)\s+)?(token|basic|callable):(.+)")
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_OBJECT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_HASH = re.compile(r"scrypt\$\d{1,2}\$\d{1,2}\$\d{1,2}\$[\w-]{16,}\$[\w-]{40,}")


class TokenRule(msgspec.Struct, frozen=True):
    """Who sends the token that an environment variable holds has a level."""

    level: Level
    variable: str


class PasswordRule(msgspec.Struct, frozen=True):
    """Who sends a user's password has a level; *hashed* is a hash, or `${NAME}` of a variable."""

    level: Level
    user: str
    hashed: str

    def __repr__(self) -> str:
        """Return the rule without the hash, which can be guessed from."""
        return f"PasswordRule({self.level.value!r}, {self.user!r})"


class FunctionRule(msgspec.Struct, frozen=True):
    """A function takes the environ and returns an `Access`; *function* is it, or where it is."""

    function: str | Callable[[Mapping[str, Any]], object]


AccessRule = TokenRule | PasswordRule | FunctionRule


def access_rules(value: object) -> tuple[AccessRule, ...]:
    """Return the rules of a text with one a line, or of a sequence of texts and functions."""
    entries: Iterable[object]
    if isinstance(value, str):
        entries = [line for each in value.splitlines() if (line := each.strip())]
    elif callable(value):
        entries = [value]
    elif isinstance(value, list | tuple):
        entries = value
    else:
        raise BadValueError(EXPECTED, value)
    rules = tuple(map(_rule, entries))
    if not rules:
        raise BadValueError(EXPECTED, value)
    users = [rule.user for rule in rules if isinstance(rule, PasswordRule)]
    for user in users:
        if users.count(user) > 1:
            raise BadValueError("one rule for each user", f"{users.count(user)} of {user}")
    return rules


def is_hash(text: str) -> bool:
    """Return whether a text has the form of a hash that `pulse hash-password` makes."""
    return _HASH.fullmatch(text) is not None


def variable_of(text: str) -> str | None:
    """Return the name of the environment variable that `${NAME}` stands for; None for others."""
    found = _VARIABLE.fullmatch(text)
    return None if found is None else found[1]


def _rule(entry: object) -> AccessRule:
    if callable(entry):
        return FunctionRule(entry)
    found = _RULE.fullmatch(entry) if isinstance(entry, str) else None
    if found is None:
        # What is wrong may be a token or a password.
        raise BadValueError(EXPECTED, Unshown(entry) if isinstance(entry, str) else entry)
    level = Level(found[1] or "read")
    match found[2]:
        case "token":
            variable = variable_of(found[3].strip())
            if variable is None:
                raise BadValueError("token:${NAME} of an environment variable", "another text")
            return TokenRule(level, variable)
        case "basic":
            return _password_rule(level, found[3])
    if found[1] is not None:
        raise BadValueError("callable:package.module:name, whose function returns the level", entry)
    if _OBJECT.fullmatch(found[3].strip()) is None:
        raise BadValueError("callable:package.module:name", entry)
    return FunctionRule(found[3].strip())


def _password_rule(level: Level, text: str) -> PasswordRule:
    user, _, hashed = text.strip().partition(":")
    if not user or (not is_hash(hashed) and variable_of(hashed) is None):
        raise BadValueError(
            "basic:USER:HASH with a hash that pulse hash-password has made, or ${NAME}",
            f"basic:{user}:***",
        )
    return PasswordRule(level, user, hashed)
