"""Which errors of PostgreSQL mean that it refuses a call, and what the operator can do.

An error of a statement has an SQLSTATE. An error of a login has none in libpq, which gives only the
server's text: `FATAL:` in it shows that the server has answered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import psycopg

_TEMPORARY = ("08", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that say nothing of the call: connection, conflict, load, shutdown, fault."""

_FULL = ("53100", "53200")
"""No room on the disk, no memory: of the class 53, but reads may succeed."""

_STARTING = (
    "starting up",
    "shutting down",
    "in recovery mode",
    "not yet accepting connections",
    "not accepting connections",
    "too many",
    "connection slots",
    "terminating connection",
    "server login",
    "pgbouncer",
    "query_wait_timeout",
)
"""Parts of the texts with which a server or a pooler refuses all logins for a while."""

_LOGIN_HINTS = (
    ("password", "check user and password in pulse.config.store, in ~/.pgpass or in the service"),
    ("authentication failed", "check the user in pulse.config.store"),
    ("pg_hba.conf", "allow the role to log in from this host"),
    ("database", "create the database, or correct its name in pulse.config.store"),
    ("role", "create the role, or correct the user in pulse.config.store"),
)
_READ_ONLY = (
    "the server is read-only, as a standby is: let pulse.config.store name the primary, or both"
    " hosts with ?target_session_attrs=read-write"
)
_SIMPLE = re.compile(r"[a-z_][a-z0-9_]*")


class Login(NamedTuple):
    """The role and the database of the last connection; empty before the first one."""

    role: str = ""
    database: str = ""


def is_refusal(error: psycopg.Error) -> bool:
    """Return whether the server has answered, and refuses the call rather than being away."""
    if error.sqlstate is not None:
        return error.sqlstate in _FULL or not error.sqlstate.startswith(_TEMPORARY)
    text = str(error)
    refused = "FATAL:" in text or "no password supplied" in text
    return refused and not any(part in text for part in _STARTING)


def hint_of(error: psycopg.Error, login: Login, schema: str) -> str:
    """Return what to do about a refusal; empty if the server's text says it."""
    match error.sqlstate:
        case "42501":
            return _grants(str(error), login, schema)
        case "25006":
            return _READ_ONLY
        case "53100":
            return "the disk of the server is full: make room"
        case None:
            text = str(error).rpartition("FATAL:")[2]
            return next((hint for part, hint in _LOGIN_HINTS if part in text), "")
    return ""


def _grants(text: str, login: Login, schema: str) -> str:
    """Return the statements that give the role its rights."""
    role, database = _identifier(login.role), _identifier(login.database)
    if "for database" in text:
        return (
            f"the role may not create the schema {schema}: GRANT CREATE ON DATABASE {database} TO"
            f" {role}, or CREATE SCHEMA {schema} AUTHORIZATION {role}"
        )
    rights = (
        f"GRANT ALL ON {what} {schema} TO {role}"
        for what in ("SCHEMA", "ALL TABLES IN SCHEMA", "ALL SEQUENCES IN SCHEMA")
    )
    return f"the role may not use the schema {schema}: {'; '.join(rights)}"


def _identifier(name: str) -> str:
    """Return a name as SQL spells it."""
    if _SIMPLE.fullmatch(name):
        return name
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
