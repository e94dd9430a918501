"""Finds out which keys an application has lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.redis.codec import indexed_at, row_of
from pulse.store.shared.backend import WITHOUT_DATA
from pulse.store.shared.manifests import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from pulse.store.redis.client import RedisClient
    from pulse.store.shared.rows import Caller

_ALWAYS = {"layout", "open", "unheld"}
"""The keys that each heartbeat makes: if all of them are lost, everything is."""


class MissingKeys:
    """Remembers which indexes of due rows exist: that of a partition without such rows does not."""

    __slots__ = ("_indexes",)

    def __init__(self) -> None:
        self._indexes: AbstractSet[str] = frozenset()

    def find(self, server: RedisClient, caller: Caller) -> str:
        """Return the sentence of an ERROR about keys that are missing; empty for none."""
        if caller.manifest == UNKNOWN.key:
            return ""  # no key is expected before the first sync
        expected = (
            _ALWAYS | {"born", "configs"} | ({"rows", "places"} if caller.definitions else set())
        )
        indexes = {f"due:{partition}" for partition in caller.partitions}
        config = f"config:{caller.manifest}"
        names = [*expected, *indexes, "runs", "history"]
        _, (*found, digests, is_listed) = server.batch(
            *(("EXISTS", name) for name in names),
            ("HLEN", config),
            ("HEXISTS", "members", caller.member.holder),
        )
        existing = {name for name, exists in zip(names, found, strict=True) if exists}
        missing = expected - existing
        # Each run is in the history, so both exist or none.
        if len(existing & {"runs", "history"}) == 1:
            missing |= {"runs", "history"} - existing
        # The manifest of a process that is not listed among the members may have been pruned.
        if is_listed and digests != digest_fields(len(caller.definitions)):
            missing.add(config)
        gone, self._indexes = self._indexes - existing, indexes & existing
        missing |= {name for name in gone if _has_due_rows(server, name)}
        return _sentence(server, missing)


def digest_fields(tasks: int) -> int:
    """Return how many fields `config:<manifest>` has: one more than tasks, or none at all."""
    return tasks + 1 if tasks else 0


def _has_due_rows(server: RedisClient, index: str) -> bool:
    """Return whether the partition of an index has due rows, and the index does not exist."""
    _, (exists, records) = server.batch(("EXISTS", index), ("HVALS", "rows"))
    return not exists and any(
        f"due:{row.partition}" == index and indexed_at(row) is not None
        for row in map(row_of, records)
    )


def _sentence(server: RedisClient, missing: AbstractSet[str]) -> str:
    if missing >= _ALWAYS:
        return WITHOUT_DATA
    if not missing:
        return ""
    if "rows" in missing:
        effect = (
            "tasks of the configuration are stored again as new ones; pauses and tasks that were"
            " added at run time are lost"
        )
    elif "runs" in missing:
        effect = "history and pending runs are lost"
    else:
        effect = "they are made again from the other keys"
    return f"keys were lost: {', '.join(map(server.key, sorted(missing)))}; {effect}"
