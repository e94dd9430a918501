"""URLs of Redis servers: validated when they are read, as redis-py validates them when it connects.

redis-py passes each option of the query to the constructor of a connection, so an unknown option,
or a value of another type, is a TypeError in the worker that opens the store.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlsplit

from pulse.errors import BadValueError, shown_url
from pulse.store.options import (
    PORT,
    SECONDS,
    TEXT,
    OptionKind,
    has_broken_escape,
    one_of,
    option_problems,
    whole,
)

SCHEMES: Final = ("redis", "rediss", "unix")
_EXAMPLES: Final = {"unix": "unix:///run/redis/redis.sock"}
_EXAMPLE: Final = "redis://localhost:6379/0"

# The values of `to_bool` of redis-py, which takes any other text for true.
_SWITCH: Final = one_of("0", "1", "f", "t", "n", "y", "no", "yes", "off", "on", "false", "true")
_SWITCH_ANY_CASE: Final = OptionKind(_SWITCH.expected, lambda value: _SWITCH.accepts(value.lower()))
_FLAGS: Final = OptionKind(
    "names of ssl.VerifyFlags, separated by commas",
    lambda value: all(part.strip("[] ").startswith("VERIFY_") for part in value.split(",")),
)
_COMMON: Final = {
    "client_name": TEXT,
    "db": whole(),
    "decode_responses": _SWITCH_ANY_CASE,
    "encoding": one_of("utf-8", "utf8", "UTF-8", "latin-1", "ascii"),
    "encoding_errors": one_of("strict", "ignore", "replace", "surrogateescape"),
    "health_check_interval": whole(),
    "legacy_responses": _SWITCH_ANY_CASE,
    "lib_name": TEXT,
    "lib_version": TEXT,
    "max_connections": whole(1),
    "password": TEXT,
    "protocol": whole(2, 3),
    "retry_on_timeout": _SWITCH_ANY_CASE,
    "socket_connect_timeout": SECONDS,
    "socket_read_size": whole(1),
    "socket_timeout": SECONDS,
    "username": TEXT,
}
_TCP: Final = {
    **_COMMON,
    "host": TEXT,
    "port": PORT,
    "socket_keepalive": _SWITCH_ANY_CASE,
}
_TLS: Final = {
    **_TCP,
    "ssl_ca_certs": TEXT,
    "ssl_ca_data": TEXT,
    "ssl_ca_path": TEXT,
    "ssl_cert_reqs": one_of("none", "optional", "required"),
    "ssl_certfile": TEXT,
    "ssl_check_hostname": _SWITCH_ANY_CASE,
    "ssl_ciphers": TEXT,
    "ssl_exclude_verify_flags": _FLAGS,
    "ssl_include_verify_flags": _FLAGS,
    "ssl_keyfile": TEXT,
    "ssl_min_version": one_of("771", "772"),
    "ssl_password": TEXT,
    "ssl_validate_ocsp": _SWITCH_ANY_CASE,
    "ssl_validate_ocsp_stapled": _SWITCH_ANY_CASE,
}
_OPTIONS: Final = {"redis": _TCP, "rediss": _TLS, "unix": {**_COMMON, "path": TEXT}}


def is_redis(word: str) -> bool:
    """Return whether a setting is meant to be a URL of a Redis server, valid or not."""
    return word.partition(":")[0].lower() in SCHEMES


def checked_url(word: str, *, expected: str) -> str:
    """Return a URL unchanged.

    Args:
        word: the URL.
        expected: what an error says was expected.

    Raises:
        BadValueError: redis-py would refuse it; the message lists all problems, and does not show
            the password.

    """
    problems = _problems(word)
    if problems:
        example = _EXAMPLES.get(word.partition(":")[0].lower(), _EXAMPLE)
        hint = f", which has {', and '.join(problems)}; such as {example!r}"
        raise BadValueError(expected, shown_url(word), hint=hint)
    return word


def _problems(word: str) -> list[str]:
    scheme, slashes, _ = word.partition("://")
    if not slashes:
        return [f"no // after {scheme.partition(':')[0]}:"]
    if scheme not in SCHEMES:
        return [f"a scheme that is not in lower case: {scheme.lower()}://"]
    problems = []
    if not word.isprintable() or " " in word:
        problems.append("a space or a control character")
    if has_broken_escape(word):
        problems.append("a percent sign that begins no escape; write %25")
    if "#" in word:
        problems.append("a # that is not written %23")
    problems += _unix_problems(word) if scheme == "unix" else _address_problems(word)
    options = parse_qsl(word.partition("?")[2])
    return problems + option_problems(options, _OPTIONS[scheme])


def _unix_problems(word: str) -> list[str]:
    return [] if len(urlsplit(word).path) > 1 else ["no path"]


def _address_problems(word: str) -> list[str]:
    problems = []
    try:
        parts = urlsplit(word)
    except ValueError:
        return ["a host in brackets that is no IPv6 address"]
    try:
        if parts.port == 0:
            problems.append("the port 0")
    except ValueError:
        problems.append("a port that is not a number from 1 to 65535")
    if not parts.hostname:
        problems.append("no host")
    database = parts.path.strip("/")
    if database and not (database.isascii() and database.isdecimal()):
        problems.append("a database that is not a number")
    return problems
