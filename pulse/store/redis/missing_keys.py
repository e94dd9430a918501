"""Finds out which keys an application has lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.store.redis.codec import row_of
from pulse.store.shared.backend import WITHOUT_DATA
from pulse.store.shared.manifests import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.store.redis.client import RedisClient
    from pulse.store.shared.rows import Caller

_ALWAYS = ("layout", "open", "unheld")
"""The keys that each heartbeat makes: if all of them are lost, everything is."""


_REPLY = msgspec.msgpack.Decoder(tuple[list[str], list[str], bool])


def find_missing(server: RedisClient, caller: Caller, indexes: IndexWatch) -> str:
    """Return the sentence of an ERROR about keys that are missing; empty for none."""
    expected = _expected_keys(caller)
    if not expected:
        return ""
    missing, indexed, is_listed = server.run(
        "find_missing",
        _REPLY,
        holder=caller.member.holder,
        expected=expected,
        manifest=caller.manifest,
        digests=digest_fields(len(caller.definitions)),
        partitions=sorted(caller.partitions),
    )
    names = [*missing, *indexes.find_lost(server, frozenset(indexed))]
    return _missing_text(server, caller, names, listed=is_listed)


def _expected_keys(caller: Caller) -> list[str]:
    """Return the names of the keys that exist once *caller* has synced; empty before that."""
    if caller.manifest == UNKNOWN.key:
        return []
    with_rows = ("rows", "places") if caller.definitions else ()
    return [*_ALWAYS, "born", "configs", *with_rows]


def digest_fields(tasks: int) -> int:
    """Return how many fields `config:<manifest>` has: one more than tasks, or none at all."""
    return tasks + 1 if tasks else 0


def _missing_text(
    server: RedisClient, caller: Caller, names: Iterable[str], *, listed: bool
) -> str:
    """Return the sentence of an ERROR about keys that are missing; empty for none.

    The manifest of a process that is not *listed* among the members may have been pruned.
    """
    missing = set(names)
    if missing.issuperset(_ALWAYS):
        return WITHOUT_DATA
    if not listed:
        missing.discard(f"config:{caller.manifest}")
    if not missing:
        return ""
    keys = ", ".join(map(server.key, sorted(missing)))
    return f"keys were lost: {keys}; {_effect(missing)}"


def _effect(missing: set[str]) -> str:
    if "rows" in missing:
        return (
            "tasks of the configuration are stored again as new ones; pauses and tasks that were"
            " added at run time are lost"
        )
    if "runs" in missing:
        return "history and pending runs are lost"
    return "they are made again from the other keys"


class IndexWatch:
    """Remembers which partitions have an index of due rows: one without rows does not exist."""

    __slots__ = ("_indexed",)

    def __init__(self) -> None:
        self._indexed: frozenset[str] = frozenset()

    def find_lost(self, server: RedisClient, indexed: frozenset[str]) -> list[str]:
        """Return the indexes that existed at the last call, do not now, and should.

        The rows are read only where an index has disappeared.
        """
        gone, self._indexed = self._indexed - indexed, indexed
        return [f"due:{one}" for one in sorted(gone) if _should_be_indexed(server, one)]


def _should_be_indexed(server: RedisClient, partition: str) -> bool:
    """Return whether a partition has due rows, and no index of them."""
    due = server.key(f"due:{partition}")
    exists, records = server.commands(("EXISTS", due), ("HVALS", server.key("rows")))
    rows = [] if exists else map(row_of, records)
    return any(
        row.partition == partition
        and row.due_at is not None
        and not row.paused
        and row.archived_at is None
        for row in rows
    )
