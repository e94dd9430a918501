"""Whether the server may lose what it has acknowledged, in words for whoever starts pulse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from pulse.store.redis.server import Server

_WANTED = ("appendonly", "appendfsync", "maxmemory-policy")


def losses_of(server: Server) -> str:
    """Return what may be lost and how; empty where nothing is, or where nobody may ask."""
    settings = {name: _setting(server, name) for name in _WANTED}
    found = [_persistence(settings), _eviction(settings)]
    words = "; ".join(one for one in found if one)
    return f"the store {server.name} can lose claims: {words}" if words else ""


def _setting(server: Server, name: str) -> str:
    """Return a setting of the server; empty where this user may not read it."""
    try:
        answer = server.command("CONFIG", "GET", name)
    except StoreUnavailableError:
        return ""
    words = [*answer.values()] if isinstance(answer, dict) else answer[1::2]
    return _text(words[0]) if words else ""


def _text(word: str | bytes) -> str:
    return word.decode() if isinstance(word, bytes) else word


def _persistence(settings: dict[str, str]) -> str:
    if settings["appendonly"] == "no":
        return (
            "it keeps no append-only file, so a restart forgets ticks that have run"
            " (set appendonly yes and appendfsync always)"
        )
    if settings["appendonly"] == "yes" and settings["appendfsync"] != "always":
        return (
            f"with appendfsync {settings['appendfsync']} a crash forgets what was written last"
            " (set appendfsync always)"
        )
    return ""


def _eviction(settings: dict[str, str]) -> str:
    policy = settings["maxmemory-policy"]
    if policy in {"", "noeviction"} or policy.startswith("volatile-"):
        return ""
    return (
        f"with maxmemory-policy {policy} it deletes keys when memory is short"
        " (set maxmemory-policy noeviction)"
    )
