"""The errors that pulse raises, and the form of their messages.

A message has the form `key: expected <what>, got <value>`, followed by `did you mean <name>?` for a
misspelt name. Every error derives from `PulseError`.
"""

from __future__ import annotations

import copyreg
import difflib
import re
import reprlib
from collections import deque
from collections.abc import Iterable
from datetime import date, time, timedelta
from enum import Enum
from typing import ClassVar
from urllib.parse import unquote


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


class UnknownRunError(PulseError, LookupError):
    """The store has no run with this id, or does not keep it any more."""


class RunNotStoppableError(PulseError):
    """The process that holds the run cannot stop it, because of its mode or its release."""


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


_KNOWN_SCHEMES = "rediss?|valkeys?|postgres(?:ql)?|https?"
_SCHEME = re.compile(rf"\s*(?:(?:{_KNOWN_SCHEMES}):/*|[a-z][a-z0-9+.-]*://+|/*)", re.IGNORECASE)
"""Two slashes follow an unknown scheme: in `a:/b@host` a user and a password stand."""
_COLON = r"[:\uff1a\ufe55\ufe13]|%(?:25)*3a"  # a colon, what NFKC makes a colon, and its escapes
_USER = re.compile(rf"[\s\S]*?(?:{_COLON})", re.IGNORECASE)
_EQUALS = re.compile(r"(?:=|%(?:25)*3d)\s*", re.IGNORECASE)
_SEPARATOR = re.compile(r"[?&;,#\s]")
_QUOTED = re.compile(
    r"""\s*(?:'(?:[^'\\]|\\.)*\\?(?:'|\Z)|"(?:[^"\\]|\\.)*\\?(?:"|\Z))""", re.DOTALL
)
_HARMLESS_NAMES = """
    application_name channel_binding client_encoding connect_timeout dbname
    fallback_application_name gssdelegation gssencmode gsslib host hostaddr keepalives
    keepalives_count keepalives_idle keepalives_interval krbsrvname load_balance_hosts
    max_protocol_version min_protocol_version options passfile port replication require_auth
    requirepeer service ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode
    sslcompression sslcrl sslcrldir sslkey sslmode sslnegotiation sslrootcert sslsni
    target_session_attrs tcp_user_timeout user

    client_name db decode_responses encoding encoding_errors health_check_interval
    legacy_responses lib_name lib_version max_connections path protocol retry_on_error
    retry_on_timeout socket_connect_timeout socket_keepalive socket_read_size socket_timeout
    ssl_ca_certs ssl_ca_data ssl_ca_path ssl_cert_reqs ssl_certfile ssl_check_hostname ssl_ciphers
    ssl_exclude_verify_flags ssl_include_verify_flags ssl_keyfile ssl_min_version
    ssl_validate_ocsp ssl_validate_ocsp_stapled timeout username
"""
"""The options of libpq, then those of redis-py, whose values are no secrets."""

_HARMLESS = frozenset(_HARMLESS_NAMES.split())

_AUTHORITY = re.compile(
    rf"(^\s*(?:{_KNOWN_SCHEMES}):/*|(?:^|[^/])//)([^/?#@]+)[\s\S]*",
    re.IGNORECASE,
)
_HOST = r"(?:\[[^]]*\]|(?:(?!%(?:25)*(?:3a|40))[^:\uff1a\ufe55\ufe13\uff20\ufe6b\[\],])*)(?::\d*)?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*", re.IGNORECASE)
_SHOWS_USER = re.compile(r"\s*(?:postgres(?:ql)?://|(?:[a-z0-9+.-]*:)?///|/?$)", re.IGNORECASE)


def shown_url(url: str) -> str:
    """Return a URL with three asterisks for each password, for logs and errors.

    The URL may be malformed. Everything up to the last `@` counts as part of the password, which
    may hold unescaped slashes; a port that is no number may be a password, too, and so may all that
    follows the port. A user without a password is shown for PostgreSQL alone; elsewhere it may be a
    token. Options of a query and of a connection string are shown if their names are known to
    be harmless.
    """
    rest, at, host = url.rpartition("@")
    if at:
        url = _without_user_password(rest) + at + host
    else:
        url = _AUTHORITY.sub(_without_odd_port, url, count=1)
    return _without_secret_options(url)


def _without_odd_port(url: re.Match[str]) -> str:
    """Return a URL with three asterisks for what follows the first colon, unless it is a port."""
    hosts = url[2]
    if _HOSTS.fullmatch(hosts):
        return url[0]
    user = _USER.match(hosts)
    return f"{url[1]}{user[0] if user else ''}***"


def _without_user_password(rest: str) -> str:
    """Return the part before the `@` with three asterisks for what follows the user."""
    found = _SCHEME.match(rest)
    start = found.end() if found else 0
    user = _USER.match(rest, start)
    if user:
        return f"{rest[: user.end()]}***"
    is_certain = _SHOWS_USER.match(rest[:start])  # else the user, or the scheme, may be a secret
    return rest if is_certain else f"{rest[:start]}***"


def _without_secret_options(text: str) -> str:
    """Return *text* with three asterisks for each value of an option that may be a secret.

    A hidden value ends where `&` or a space precedes the name of a harmless option.
    """
    parts, start, position, hides = [], 0, 0, False
    while equals := _EQUALS.search(text, position):
        before = text[position : equals.start()].rstrip()
        name = _SEPARATOR.split(before)[-1]
        begin = position + len(before) - len(name)
        is_harmless = unquote(name).lower() in _HARMLESS
        position = equals.end()
        if hides and is_harmless and (text[begin - 1] == "&" or text[begin - 1].isspace()):
            start, hides = begin - 1, False
        if hides:
            continue
        if not is_harmless:
            parts.append(f"{text[start:position]}***")
            hides = True
            quoted = _QUOTED.match(text, position)
            position = quoted.end() if quoted else position
    return "".join(parts if hides else (*parts, text[start:]))


def shown(value: object) -> str:
    """Return the shortened repr of *value* for an error message, without secrets.

    Of collections, the type alone is shown, unless they contain only numbers: texts in them may be
    headers.
    """
    short = _ShortRepr()
    short.maxstring = short.maxother = 80
    return short.repr(value if _is_plain(value) else Unshown(value))


def _is_plain(value: object) -> bool:
    """Return whether *value* is no collection, or a collection of numbers."""
    if isinstance(value, dict):
        return not value
    if isinstance(value, list | tuple | set | frozenset | deque):
        return all(isinstance(each, int | float | None) for each in value)
    is_text = isinstance(value, str | bytes | bytearray | memoryview | range)
    return is_text or not isinstance(value, Iterable)


class _ShortRepr(reprlib.Repr):
    """Formats no huge numbers and no bytes of great length, and cuts the reprs of other values.

    It hides the secrets of texts, of bytes, and of the reprs of other values.
    """

    def repr_str(self, x: str, level: int) -> str:
        """Return the shortened repr of a text without passwords."""
        return super().repr_str(shown_url(x), level)

    def repr_bytes(self, value: bytes, level: int) -> str:  # noqa: ARG002 - a method of reprlib
        """Return the shortened repr of bytes without passwords; of many bytes, the type alone."""
        if len(value) > _MAX_BYTES:
            return repr(Unshown(value))
        value = shown_url(value.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        return self._cut(repr(value))

    def repr_instance(self, x: object, level: int) -> str:
        """Return the shortened repr of another value without passwords."""
        if isinstance(x, date | time | timedelta | Unshown):
            return super().repr_instance(x, level)
        try:
            text = repr(x)
        except Exception:  # noqa: BLE001 - the method of a stranger may raise anything
            return super().repr_instance(x, level)
        return self._cut(shown_url(text))

    def _cut(self, text: str) -> str:
        """Return *text* without its middle if it is too long, as `reprlib` does."""
        if len(text) <= self.maxother:
            return text
        first = (self.maxother - len(self.fillvalue)) // 2
        last = self.maxother - len(self.fillvalue) - first
        return text[:first] + self.fillvalue + text[len(text) - last :]

    def repr_int(self, value: int, level: int) -> str:
        """Return the shortened repr of a number; one of thousands of digits has none."""
        bits = value.bit_length()
        return super().repr_int(value, level) if bits <= _MAX_BITS else f"a number of {bits} bits"


_MAX_BITS = 1_000
_MAX_BYTES = 10_000


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known name most similar to *name*, or an empty text."""
    matches = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""
