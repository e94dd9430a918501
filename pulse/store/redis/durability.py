"""Whether the server may lose what it has acknowledged, in words for whoever starts pulse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from pulse.store.redis.client import RedisClient

_WANTED = ("appendonly", "appendfsync", "maxmemory-policy")


def durability_problems(server: RedisClient) -> str:
    """Return what may be lost and how; empty where nothing is, or where nobody may ask."""
    settings = _settings(server)
    found = [_persistence(settings), _eviction(settings)]
    words = "; ".join(one for one in found if one)
    return f"the store {server.name} can lose claims: {words}" if words else ""


def _settings(server: RedisClient) -> dict[str, str]:
    """Return the settings that matter, as far as this user may read them."""
    try:
        return {name: _setting(server, name) for name in _WANTED}
    except StoreUnavailableError:
        return _told_by_info(server)


def _setting(server: RedisClient, name: str) -> str:
    answer = server.command("CONFIG", "GET", name)
    return answer[1].decode() if answer else ""


def _told_by_info(server: RedisClient) -> dict[str, str]:
    """Return what a server says of itself that hides its settings."""
    try:
        said = server.command("INFO")
    except StoreUnavailableError:
        return {}
    kept = {0: "no", 1: "yes"}.get(said.get("aof_enabled"), "")
    return {"appendonly": kept, "maxmemory-policy": said.get("maxmemory_policy", "")}


def _persistence(settings: dict[str, str]) -> str:
    kept, written = settings.get("appendonly", ""), settings.get("appendfsync", "")
    if kept == "no":
        return (
            "it keeps no append-only file, so a restart forgets ticks that have run"
            " (set appendonly yes and appendfsync always)"
        )
    if kept == "yes" and written not in {"", "always"}:
        return (
            f"with appendfsync {written} a crash forgets what was written last"
            " (set appendfsync always)"
        )
    return ""


def _eviction(settings: dict[str, str]) -> str:
    policy = settings.get("maxmemory-policy", "")
    if policy in {"", "noeviction"} or policy.startswith("volatile-"):
        return ""
    return (
        f"with maxmemory-policy {policy} it deletes keys when memory is short"
        " (set maxmemory-policy noeviction)"
    )
