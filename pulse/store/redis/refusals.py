"""Which errors of Redis mean that it refuses a call, and what the operator can do."""

from __future__ import annotations

_TEMPORARY = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ")
"""The beginnings of replies with which a server refuses every call for a while."""

_HINTS = (
    ("WRONGPASS", "check user and password in pulse.config.store"),
    ("invalid username-password pair", "check user and password in pulse.config.store"),
    ("invalid password", "check the password in pulse.config.store"),
    ("Authentication required", "add user and password to pulse.config.store"),
    ("NOAUTH", "add user and password to pulse.config.store"),
    ("no permissions to", "{rights}"),
    ("can't access", "{rights}"),
    ("NOPERM", "{rights}"),
    ("DB index", "let pulse.config.store name a database that the server has"),
    ("READONLY", "the server is a replica: let pulse.config.store name the primary"),
    ("read only replica", "the server is a replica: let pulse.config.store name the primary"),
    ("maxmemory", "the server has no memory left: raise maxmemory, or delete other keys"),
    ("MISCONF", "the server cannot write its data to the disk: see its log"),
)
_RIGHTS = (
    "allow the user the keys of the application and scripts:"
    " ACL SETUSER <user> ~{prefix}* +@all -@admin -@dangerous +info"
)


def is_refusal(reply: str) -> bool:
    """Return whether an error reply refuses the call; a server that is loading is away."""
    return not reply.startswith(_TEMPORARY)


def hint_of(reply: str, prefix: str) -> str:
    """Return what to do about an error reply; empty if the reply says it.

    Args:
        reply: the text of the error.
        prefix: the beginning of the names of the application's keys.

    """
    hint = next((hint for part, hint in _HINTS if part in reply), "")
    return hint.format(rights=_RIGHTS.format(prefix=prefix))
