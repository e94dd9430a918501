"""Finds out who sends a request, and what the sender may do, by the setting `access`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Any, Final

from pulse.clock import SECOND
from pulse.config.access_rules import (
    FunctionRule,
    PasswordRule,
    TokenRule,
    is_hash,
    variable_of,
)
from pulse.core.access import NOBODY, Access, Level, checked_access
from pulse.core.error_text import message_of
from pulse.engine.child_application import find_named
from pulse.errors import BadValueError, ConfigError
from pulse.web.limits import RateLimit
from pulse.web.passwords import RightPasswords, is_password

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pulse.clock import Clock
    from pulse.config.access_rules import AccessRule

    Environ = Mapping[str, Any]
    AccessFunction = Callable[[Environ], object]

SHORTEST_TOKEN: Final = 16
_WRONG_AT_ONCE, _WRONG_EVERY = 5, 6 * SECOND


class TooManyAttemptsError(Exception):
    """Too many wrong passwords were sent; *wait* is after how many seconds another is looked at."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


class AccessFailedError(Exception):
    """A function of the setting `access` has raised, or has returned something else."""


class Gate:
    """Decides by rules what the sender of a request may do: the most that any rule permits.

    Args:
        rules: the rules of the setting.
        clock: measures the time between wrong passwords.

    Raises:
        ConfigError: an environment variable of a rule is not set, or is too short for a token.

    """

    def __init__(self, rules: Sequence[AccessRule], clock: Clock) -> None:
        problems: list[str] = []
        self._tokens = [
            (_digest(_token(rule.variable, problems)), Access(rule.level, f"token {rule.variable}"))
            for rule in rules
            if isinstance(rule, TokenRule)
        ]
        self._passwords: dict[str, tuple[str, Access]] = {}
        for rule in rules:
            if isinstance(rule, PasswordRule):
                hashed = _hash_of(rule, problems)
                self._passwords[rule.user] = hashed, Access(rule.level, rule.user)
        self._functions = [rule.function for rule in rules if isinstance(rule, FunctionRule)]
        if problems:
            raise ConfigError(problems)
        self._right = RightPasswords()
        self._wrong = RateLimit(clock, burst=_WRONG_AT_ONCE, every=_WRONG_EVERY)

    @property
    def challenges(self) -> list[str]:
        """The values of `WWW-Authenticate` for a request without access (RFC 9110, 11.6.1)."""
        found = ['Basic realm="pulse", charset="UTF-8"'] if self._passwords else []
        return [*found, 'Bearer realm="pulse"'] if self._tokens else found

    def access_of(self, environ: Environ) -> Access:
        """Return what the sender of a request may do.

        Raises:
            TooManyAttemptsError: too many wrong passwords were sent to this process.
            AccessFailedError: a function has failed.

        """
        found, refused = [NOBODY], None
        try:
            found.append(self._by_header(environ.get("HTTP_AUTHORIZATION", "")))
        except TooManyAttemptsError as error:
            refused = error
        # Wrong passwords of somebody else must not keep out whom a function knows.
        found += [call_access(function, environ) for function in self._functions]
        best = max(found, key=lambda one: list(Level).index(Level(one.level)))
        if refused is not None and best.level == Level.NONE:
            raise refused
        return best

    def _by_header(self, header: str) -> Access:
        scheme, _, credentials = header.partition(" ")
        match scheme.lower():
            case "bearer":
                return self._by_token(credentials.strip())
            case "basic":
                return self._by_password(credentials.strip())
        return NOBODY

    def _by_token(self, token: str) -> Access:
        mine, found = _digest(token), NOBODY
        for digest, access in self._tokens:  # all of them, so that the time is the same
            if hmac.compare_digest(digest, mine) and Level(access.level).covers(Level(found.level)):
                found = access
        return found

    def _by_password(self, credentials: str) -> Access:
        if not self._passwords:
            return NOBODY
        user = self._right.user_of(credentials)
        if user is not None:
            return self._passwords[user][1]
        try:
            text = base64.b64decode(credentials, validate=True).decode()
        except ValueError:  # no base64, or no UTF-8 in it
            return NOBODY
        user, _, password = text.partition(":")
        if wait := self._wrong.wait():
            raise TooManyAttemptsError(wait)
        # An unknown user costs as much time as a wrong password.
        hashed, access = self._passwords.get(
            user, (next(iter(self._passwords.values()))[0], NOBODY)
        )
        if not is_password(password, hashed) or access is NOBODY:
            return NOBODY
        self._right.add(credentials, user)
        self._wrong.give_back()
        return access


def access_function(access: object) -> Callable[[Environ], Access]:
    """Return a function for the argument `access` of an application that is mounted by hand.

    The function raises `AccessFailedError` if it fails, and what `Gate.access_of` raises.

    Args:
        access: a bool, where True means act; an `Access`; or a function of the environ that returns
            one of these.

    Raises:
        ConfigError: it is something else.

    """
    if callable(access):
        function: AccessFunction = access
        return lambda environ: call_access(function, environ)
    try:
        found = checked_access(access)
    except BadValueError as error:
        raise ConfigError([f"access: {error}"]) from None
    return lambda _: found


def call_access(function: str | AccessFunction, environ: Environ) -> Access:
    """Return what a function of the application permits.

    Raises:
        AccessFailedError: it has raised, or has returned something else.
        TooManyAttemptsError: it is that of a `Gate`.

    """
    try:
        called: Any = find_named(function) if isinstance(function, str) else function
        return checked_access(called(environ))
    except (TooManyAttemptsError, AccessFailedError):
        raise
    # Whatever the application's function raises, nobody gets access by it.
    except Exception as error:
        name = function if isinstance(function, str) else repr(function)
        raise AccessFailedError(f"access: {name}: {message_of(error)}") from error


def _token(variable: str, problems: list[str]) -> str:
    value = os.environ.get(variable, "")
    if len(value) < SHORTEST_TOKEN:
        got = f"{len(value)} characters" if value else "none"
        problems.append(
            f"access: token:${{{variable}}} needs the environment variable {variable} with a token"
            f" of at least {SHORTEST_TOKEN} characters, got {got}"
        )
    return value


def _hash_of(rule: PasswordRule, problems: list[str]) -> str:
    variable = variable_of(rule.hashed)
    if variable is None:
        return rule.hashed
    value = os.environ.get(variable, "")
    if not is_hash(value):
        problems.append(
            f"access: basic:{rule.user} needs the environment variable {variable} with a hash that"
            f" pulse hash-password has made, got {_what_came(value)}"
        )
    return value


def _what_came(value: str) -> str:
    if not value:
        return "none"
    return "another text; in a shell, put the hash into single quotes: it contains $"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
