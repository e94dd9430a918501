"""Finds out which keys an application has lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.redis.codec import count_of, indexed_at, row_of
from pulse.store.shared.backend import WITHOUT_DATA
from pulse.store.shared.manifests import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from pulse.store.redis.client import RedisClient
    from pulse.store.shared.rows import Caller

    Command = Sequence[str | int]

_ALWAYS = frozenset(("layout", "open", "unheld"))
"""The keys that each heartbeat makes: if all of them are lost, everything is."""

_RUNS = ("runs", "history")
"""Each run is in the history, so both exist or none."""

_LEASES = "leases"


_EVERY = 16
"""At which heartbeats the counters of all tasks are read for indexes of runs that have gone."""


class MissingKeys:
    """Remembers which indexes exist: an index without entries does not."""

    __slots__ = ("_beats", "_gone", "_indexes")

    def __init__(self) -> None:
        self._indexes: AbstractSet[str] = frozenset()
        self._gone: set[str] = set()
        self._beats = 0

    def questions(self, server: RedisClient, caller: Caller) -> list[Command]:
        """Return the commands whose replies `find` takes, for `RedisClient.batch`."""
        if caller.manifest == UNKNOWN.key:
            return []  # no key is expected before the first sync
        return [
            _exist(server, _expected_by(caller)),
            _exist(server, _RUNS),
            ("HLEN", f"config:{caller.manifest}"),
            *(("EXISTS", index) for index in _indexes_of(caller)),
        ]

    def find(
        self, server: RedisClient, caller: Caller, replies: Sequence[int], *, is_listed: bool
    ) -> str:
        """Return the sentence of an ERROR about keys that are missing; empty for none.

        The manifest of a process that is not listed among the members may have been pruned.
        """
        if not replies:
            return ""
        expected, missing = _expected_by(caller), set[str]()
        found, runs, digests, *exist = replies
        if found != len(expected):
            missing |= _absent(server, expected)
        if runs == 1:
            missing |= _absent(server, _RUNS)
        if is_listed and digests != digest_fields(len(caller.definitions)):
            missing.add(f"config:{caller.manifest}")
        indexes = _indexes_of(caller)
        existing = {name for name, exists in zip(indexes, exist, strict=True) if exists}
        self._gone |= self._indexes - existing
        self._indexes = existing
        self._beats += 1
        missing |= {name for name in self._to_examine() if _has_entries(server, name)}
        return _sentence(server, missing)

    def _to_examine(self) -> set[str]:
        """Return indexes that have gone: those of rows at once, those of runs now and then.

        An index of runs loses its last entry all the time.
        """
        if self._beats % _EVERY:
            examined = {name for name in self._gone if name.startswith("due:")}
        else:
            examined = set(self._gone)
        self._gone -= examined
        return examined


def digest_fields(tasks: int) -> int:
    """Return how many fields `config:<manifest>` has: one more than tasks, or none at all."""
    return tasks + 1 if tasks else 0


def _expected_by(caller: Caller) -> list[str]:
    tasks = ("rows", "places") if caller.definitions else ()
    return sorted({*_ALWAYS, "born", "configs", *tasks})


def _indexes_of(caller: Caller) -> list[str]:
    """Return the indexes whose entries follow from other keys: see `_has_entries`."""
    partitions = sorted(caller.partitions)
    return [_LEASES, *(f"{index}:{one}" for one in partitions for index in ("due", "unheld"))]


def _exist(server: RedisClient, names: Sequence[str]) -> Command:
    """Return the command that counts which of some keys exist."""
    first, *others = names  # `RedisClient.batch` completes the name of the first key alone
    return ("EXISTS", first, *map(server.key, others))


def _absent(server: RedisClient, names: Collection[str]) -> set[str]:
    _, found = server.batch(*(("EXISTS", name) for name in names))
    return {name for name, exists in zip(names, found, strict=True) if not exists}


def _has_entries(server: RedisClient, index: str) -> bool:
    """Return whether an index that does not exist should have entries."""
    kind, _, partition = index.partition(":")
    if kind == "due":
        _, (exists, records) = server.batch(("EXISTS", index), ("HVALS", "rows"))
        return not exists and any(
            row.partition == partition and indexed_at(row) is not None
            for row in map(row_of, records)
        )
    _, (exists, unfinished, pending) = server.batch(
        ("EXISTS", index), ("HGETALL", "open"), ("HGETALL", "unheld")
    )
    waiting = _counts(pending)
    if kind == _LEASES:
        return not exists and sum(_counts(unfinished).values()) > sum(waiting.values())
    return not exists and any(
        number > 0 and key.partition("/")[0] == partition for key, number in waiting.items()
    )


def _counts(fields: Sequence[str]) -> Mapping[str, int]:
    """Return the counters of a hash, by the key of the task row; its filler is no counter."""
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return {key: count_of(number) for key, number in pairs if key}


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
