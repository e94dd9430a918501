"""Builds the parts of a WSGI environ that are equal in all calls of a task.

Non-ASCII text is encoded as in PEP 3333: UTF-8 bytes, each as one latin-1 character.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes, urlsplit

from pulse.errors import BadValueError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

_PORTS = {"http": "80", "https": "443"}
_RESERVED = frozenset(
    {
        "HTTP_X_PULSE_TASK",
        "HTTP_X_PULSE_FIRE_TIME",
        "HTTP_X_PULSE_RUN_ID",
        "HTTP_X_PULSE_ATTEMPT",
        "HTTP_X_PULSE_TRIGGER",
        "HTTP_IDEMPOTENCY_KEY",
        "HTTP_TRANSFER_ENCODING",
        "CONTENT_LENGTH",
    }
)
"""The environ entries that only pulse sets."""

_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
_REFERENCE = re.compile(r"(\$?)\$\{([^{}]*)\}")


def quote_header_value(text: str) -> str:
    """Return *text* for a header: `%` and all but visible ASCII are percent-encoded.

    `urllib.parse.unquote` restores every text that UTF-8 can encode.
    """
    if text.isascii() and text.isprintable() and " " not in text and "%" not in text:
        return text
    return quote(text, safe=_VISIBLE, errors="surrogatepass")


def query_of(text: str) -> str:
    """Return a query string with all non-ASCII characters percent-encoded."""
    if text.isascii():
        return text
    return quote(text, safe=_VISIBLE + "%", errors="surrogatepass")


def server_environ(base_url: str) -> dict[str, object]:
    """Return the environ entries for the address of the application.

    Raises:
        BadValueError: *base_url* does not consist of scheme, host, optional port and path.

    """
    parts, port = _split(base_url)
    default = _PORTS[parts.scheme]
    host = _ascii_host(base_url, parts)
    return {
        "wsgi.url_scheme": parts.scheme,
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or default),
        "HTTP_HOST": host if port is None or str(port) == default else f"{host}:{port}",
        "SCRIPT_NAME": unquote_to_bytes(parts.path).decode("latin-1").rstrip("/"),
    }


def _split(base_url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise _url_error(base_url) from None
    extra = parts.query or parts.fragment or "@" in parts.netloc or not base_url.isprintable()
    if parts.scheme not in _PORTS or not parts.hostname or extra or " " in base_url:
        raise _url_error(base_url)
    return parts, port


def _ascii_host(base_url: str, parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        return f"[{host}]"
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise _url_error(base_url) from None


def _url_error(base_url: str) -> BadValueError:
    return BadValueError("a URL of scheme, host and path such as https://example.org/app", base_url)


def header_entries(headers: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """Return the environ entries of a task's headers, with each `${NAME}` replaced.

    `$${NAME}` becomes the text `${NAME}`. Repeated headers are joined (RFC 9110, section 5.3).

    Raises:
        ConfigError: an environment variable is missing or invalid in a header, or only pulse may
            send the header. The error lists all problems.

    """
    entries: dict[str, str] = {}
    problems: list[str] = []
    for name, value in headers:
        key = _entry_name(name)
        if key in _RESERVED:
            problems.append(f"headers: {name} is set by pulse itself")
        substituted = _as_latin(_substitute(name, value, problems))
        joint = "; " if key == "HTTP_COOKIE" else ", "
        entries[key] = f"{entries[key]}{joint}{substituted}" if key in entries else substituted
    if problems:
        raise ConfigError(problems)
    return entries


def header_problems(headers: tuple[tuple[str, str], ...]) -> list[str]:
    """Return one sentence for each header of a task that this process cannot send."""
    try:
        header_entries(headers)
    except ConfigError as error:
        return list(error.problems)
    return []


def _entry_name(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"


def _substitute(name: str, value: str, problems: list[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        escaped, variable = match.groups()
        if escaped:
            return match[0][1:]
        content = os.environ.get(variable)
        if not variable:
            problems.append(f"headers: {name} needs the name of an environment variable in ${{}}")
        elif content is None:
            problems.append(
                f"headers: {name} needs the environment variable {variable}, which is not set"
            )
        elif any(ord(char) < 32 and char != "\t" for char in content):  # noqa: PLR2004 - control characters
            problems.append(
                f"headers: {name} needs text on one line in the environment variable {variable}"
            )
        return content or ""

    return _REFERENCE.sub(replace, value)


def _as_latin(value: str) -> str:
    return value if value.isascii() else value.encode(errors="surrogateescape").decode("latin-1")
