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
    append_only, fsync, policy = (settings.get(name, "") for name in _WANTED)
    problems: list[str] = []
    if append_only == "no":
        problems.append(
            "it keeps no append-only file, so a restart loses the record of ticks that have run"
            " (set appendonly yes and appendfsync always)"
        )
    elif append_only and fsync not in {"", "always"}:
        problems.append(
            f"with appendfsync {fsync} a crash loses the last writes (set appendfsync always)"
        )
    if policy not in {"", "noeviction"} and not policy.startswith("volatile-"):
        problems.append(
            f"with maxmemory-policy {policy} it deletes keys when memory is short"
            " (set maxmemory-policy noeviction)"
        )
    return f"the store {server.name} can lose claims: {'; '.join(problems)}" if problems else ""


def _settings(server: RedisClient) -> dict[str, str]:
    """Return the relevant settings, as far as this user may read them."""
    try:
        replies = [server.command("CONFIG", "GET", name) for name in _WANTED]
        return {
            name: reply[1].decode() for name, reply in zip(_WANTED, replies, strict=True) if reply
        }
    except StoreUnavailableError:
        return _settings_from_info(server)


def _settings_from_info(server: RedisClient) -> dict[str, str]:
    """Return the settings that INFO shows, for a server that refuses CONFIG."""
    try:
        info = server.command("INFO")
    except StoreUnavailableError:
        return {}
    append_only = {0: "no", 1: "yes"}.get(info.get("aof_enabled"), "")
    return {"appendonly": append_only, "maxmemory-policy": info.get("maxmemory_policy", "")}
