"""URLs of PostgreSQL databases: validated when they are read, shown without passwords."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from pulse.errors import BadValueError, did_you_mean
from pulse.store.naming import shown_url

SCHEMES = ("postgresql", "postgres")
EXPECTED = "postgresql://user@host/database"
_OPTIONS = frozenset(
    """application_name channel_binding client_encoding connect_timeout dbname
    fallback_application_name gssencmode gsslib host hostaddr keepalives keepalives_count
    keepalives_idle keepalives_interval krbsrvname load_balance_hosts options passfile password
    port require_auth requirepeer service sslcert sslcertmode sslcompression sslcrl sslcrldir
    sslkey ssl_max_protocol_version ssl_min_protocol_version sslmode sslnegotiation sslpassword
    sslrootcert sslsni target_session_attrs tcp_user_timeout user""".split()  # noqa: SIM905 - a list of this length is read as words
)
_PORT = re.compile(r"^(\[[^]]*\]|[^:\[\]]*)(:\d{1,5})?$")


def is_postgres(word: str) -> bool:
    """Return whether a setting is meant to be a PostgreSQL URL, valid or not."""
    return word.partition(":")[0].lower() in SCHEMES


def checked_url(word: str) -> str:
    """Return a URL unchanged.

    Raises:
        BadValueError: it is not a valid URL; the message does not show the password.

    """
    hint = _problem(word)
    if hint is not None:
        raise BadValueError(EXPECTED, shown_url(word), hint=hint)
    return word


def _problem(word: str) -> str | None:
    """Return what is wrong, as text that follows the URL; None if the URL is valid."""
    scheme, slashes, rest = word.partition("://")
    if not slashes or scheme not in SCHEMES:
        return (
            f"; did you mean {'postgresql://' + shown_url(word).partition(':')[2].lstrip('/')!r}?"
        )
    if not word.isprintable() or " " in word:
        return ", which contains a space or a control character"
    address, _, query = rest.partition("?")
    hosts, _, database = address.partition("/")
    options = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    for name in options:
        if name not in _OPTIONS:
            return f", which has an unknown option {name!r}{did_you_mean(name, _OPTIONS)}"
    if not database and not {"dbname", "service"} & set(options):
        return ", which names no database"
    bad = [host for host in hosts.rpartition("@")[2].split(",") if not _PORT.search(host)]
    return f", whose port in {bad[0]!r} is not a number" if bad else None
