"""What the app is sent: the parts of a WSGI environ that do not change from call to call.

Non-ASCII text travels as PEP 3333 has it, as bytes in latin-1 characters; the bytes are UTF-8.
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
_OWN = frozenset(
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
"""What pulse alone says of a call."""

_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
_REFERENCE = re.compile(r"(\$?)\$\{([^{}]*)\}")


def visible(word: str) -> str:
    """Return *word* for a header: all but visible ASCII percent-encoded, and `%` itself.

    `urllib.parse.unquote` gives every word back that UTF-8 can encode.
    """
    if word.isascii() and word.isprintable() and " " not in word and "%" not in word:
        return word
    return quote(word, safe=_VISIBLE, errors="surrogatepass")


def query_of(text: str) -> str:
    """Return a query string, whatever is not ASCII in it percent-encoded."""
    if text.isascii():
        return text
    return quote(text, safe=_VISIBLE + "%", errors="surrogatepass")


def address(base_url: str) -> dict[str, object]:
    """Return the entries that say which address the app is asked at.

    Raises:
        BadValueError: *base_url* is more or less than scheme, host, port and path.

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
        raise _bad(base_url) from None
    extra = parts.query or parts.fragment or "@" in parts.netloc or not base_url.isprintable()
    if parts.scheme not in _PORTS or not parts.hostname or extra or " " in base_url:
        raise _bad(base_url)
    return parts, port


def _ascii_host(base_url: str, parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        return f"[{host}]"
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise _bad(base_url) from None


def _bad(base_url: str) -> BadValueError:
    return BadValueError("a URL of scheme, host and path such as https://example.org/app", base_url)


def header_entries(headers: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """Return the environ entries of a task's own headers, each `${NAME}` in them filled in.

    `$${NAME}` stands for `${NAME}` itself. A header given twice is joined (RFC 9110, section 5.3).

    Raises:
        ConfigError: an environment variable is missing or no header can hold it, or the header
            is one that only pulse may send. All problems are named.

    """
    entries: dict[str, str] = {}
    problems: list[str] = []
    for name, value in headers:
        key = _entry(name)
        if key in _OWN:
            problems.append(f"headers: {name} is set by pulse itself")
        filled = _as_latin(_fill(name, value, problems))
        joint = "; " if key == "HTTP_COOKIE" else ", "
        entries[key] = f"{entries[key]}{joint}{filled}" if key in entries else filled
    if problems:
        raise ConfigError(problems)
    return entries


def header_problems(headers: tuple[tuple[str, str], ...]) -> list[str]:
    """Return one sentence for each of a task's headers that cannot be sent from this process."""
    try:
        header_entries(headers)
    except ConfigError as error:
        return list(error.problems)
    return []


def _entry(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"


def _fill(name: str, value: str, problems: list[str]) -> str:
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
