"""Warnings about settings of the Redis server with which it may lose acknowledged writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from pulse.store.redis.client import RedisClient

_WANTED = ("appendonly", "appendfsync", "maxmemory-policy")


def durability_problems(server: RedisClient) -> str:
    """Return a warning for operators; empty if nothing can be lost or the settings are hidden."""
    settings = _settings(server)
    found = [_persistence(settings), _eviction(settings)]
    problems = "; ".join(problem for problem in found if problem)
    return f"the store {server.name} can lose claims: {problems}" if problems else ""


def _settings(server: RedisClient) -> dict[str, str]:
    """Return the relevant settings, as far as this user may read them."""
    try:
        return {name: _setting(server, name) for name in _WANTED}
    except StoreUnavailableError:
        return _settings_from_info(server)


def _setting(server: RedisClient, name: str) -> str:
    reply = server.command("CONFIG", "GET", name)
    return reply[1].decode() if reply else ""


def _settings_from_info(server: RedisClient) -> dict[str, str]:
    """Return the settings that INFO shows, for a server that refuses CONFIG."""
    try:
        info = server.command("INFO")
    except StoreUnavailableError:
        return {}
    append_only = {0: "no", 1: "yes"}.get(info.get("aof_enabled"), "")
    return {"appendonly": append_only, "maxmemory-policy": info.get("maxmemory_policy", "")}


def _persistence(settings: dict[str, str]) -> str:
    append_only, fsync = settings.get("appendonly", ""), settings.get("appendfsync", "")
    if append_only == "no":
        return (
            "it keeps no append-only file, so a restart loses the record of ticks that have run"
            " (set appendonly yes and appendfsync always)"
        )
    if append_only == "yes" and fsync not in {"", "always"}:
        return f"with appendfsync {fsync} a crash loses the last writes (set appendfsync always)"
    return ""


def _eviction(settings: dict[str, str]) -> str:
    policy = settings.get("maxmemory-policy", "")
    if policy in {"", "noeviction"} or policy.startswith("volatile-"):
        return ""
    return (
        f"with maxmemory-policy {policy} it deletes keys when memory is short"
        " (set maxmemory-policy noeviction)"
    )
