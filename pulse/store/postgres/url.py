"""URLs of PostgreSQL databases: validated when they are read, shown without passwords."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from pulse.errors import BadValueError, shown_url
from pulse.store.options import (
    PORT,
    PORTS,
    TEXT,
    has_broken_escape,
    one_of,
    option_problems,
    whole,
)

SCHEMES = ("postgresql", "postgres")
EXPECTED = "postgresql://user@host/database"
_SWITCH = one_of("0", "1")
_TLS = one_of("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_TEXTS = """application_name client_encoding dbname fallback_application_name gsslib host hostaddr
    krbsrvname options passfile password require_auth requirepeer service sslcert sslcrl sslcrldir
    sslkey sslpassword sslrootcert user"""
_NUMBERS = """connect_timeout keepalives keepalives_count keepalives_idle keepalives_interval
    tcp_user_timeout"""
_OPTIONS = {
    **dict.fromkeys(_TEXTS.split(), TEXT),
    **dict.fromkeys(_NUMBERS.split(), whole(-1)),
    "channel_binding": one_of("disable", "prefer", "require"),
    "gssencmode": one_of("disable", "prefer", "require"),
    "load_balance_hosts": one_of("disable", "random"),
    "port": PORTS,
    "ssl_max_protocol_version": _TLS,
    "ssl_min_protocol_version": _TLS,
    "sslcertmode": one_of("disable", "allow", "require"),
    "sslcompression": _SWITCH,
    "sslmode": one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": one_of("postgres", "direct"),
    "sslsni": _SWITCH,
    "target_session_attrs": one_of(
        "any", "read-write", "read-only", "primary", "standby", "prefer-standby"
    ),
}
"""The options of a URL that libpq takes, with their values (PostgreSQL 18, chapter 32.1)."""

_HOST = re.compile(r"^(?:\[[^]]*\]|[^:\[\]]*)(?::(?P<port>.*))?$")


def is_postgres(word: str) -> bool:
    """Return whether a setting is meant to be a PostgreSQL URL, valid or not."""
    return word.partition(":")[0].lower() in SCHEMES


def checked_url(word: str) -> str:
    """Return a URL unchanged.

    Raises:
        BadValueError: it is not a valid URL; the message does not show the password.

    """
    problems = _problems(word)
    if problems:
        hint = f", which {', and '.join(problems)}"
        raise BadValueError(EXPECTED, shown_url(word), hint=hint)
    return word


def _problems(word: str) -> list[str]:
    """Return what is wrong, as texts that follow the URL; empty if the URL is valid."""
    scheme, slashes, rest = word.partition("://")
    if not slashes or scheme not in SCHEMES:
        meant = "postgresql://" + shown_url(word).partition(":")[2].lstrip("/")
        return [f"does not begin with postgresql://; did you mean {meant!r}?"]
    problems = []
    if not word.isprintable() or " " in word:
        problems.append("contains a space or a control character")
    if has_broken_escape(word):
        problems.append("contains a percent sign that begins no escape; write %25")
    address, _, query = rest.partition("?")
    parts = [part for part in query.split("&") if part]
    if any(part.count("=") != 1 for part in parts):
        problems.append("has an option that is not written name=value")
    pairs = [part for part in parts if "=" in part]  # the rest may be part of a password
    options = parse_qsl("&".join(pairs), keep_blank_values=True)
    problems += [f"has {each}" for each in option_problems(options, _OPTIONS)]
    hosts, _, database = address.partition("/")
    if not database and not {"dbname", "service"} & {name for name, _ in options}:
        problems.append("names no database")
    if not all(_is_host(host) for host in hosts.rpartition("@")[2].split(",")):
        problems.append("has a port that is not a number from 1 to 65535")
    return problems


def _is_host(host: str) -> bool:
    found = _HOST.search(host)
    return found is not None and (not found["port"] or PORT.accepts(found["port"]))
