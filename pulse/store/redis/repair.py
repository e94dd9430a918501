"""Repairs the keys of an application after a loss, or after another program has overwritten them.

Theory of operation
-------------------
Rows, runs and manifests are the data; every other key is an index or a counter that can be made
from them. A repair

1. moves what is no data of this store aside: a key of another type to `corrupt:<key>`, a field of a
   hash that cannot be decoded to the hash `corrupt`;
2. adds runs to the history again, if the history was lost (`reindex.lua`);
3. makes the other indexes and counters again in one step, and empties the list of members
   (`rebuild.lua`): each process that lives finds that it is not listed, and syncs. So the rows that
   were lost are added by the processes that declare their tasks.

A record that is JSON of another form may have been written by a newer release: it stays.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pulse.errors import StoreRefusedError, shown
from pulse.store.redis.codec import LAYOUT, MANIFEST, member_row, row_of, run_of
from pulse.store.shared.backend import StorageReplacedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.errors import StoreUnavailableError
    from pulse.store.redis.client import RedisClient

    Check = Callable[[bytes, bytes], object]
    Message = dict[str, object]

_TYPES = {
    "rows": "hash",
    "runs": "hash",
    "open": "hash",
    "unheld": "hash",
    "reserved": "hash",
    "members": "hash",
    "configs": "hash",
    "leases": "zset",
    "history": "zset",
    "archived": "zset",
    "last": "string",
    "orders": "string",
    "born": "string",
    "paused": "set",
    "places": "set",
}
_NUMBERS = ("last", "orders", "born")
_PAGE = 1_000
ASIDE = "corrupt"
"""The hash of fields that were moved aside; keys are moved to this name, a colon, and their own."""

MOST_NAMED = 10
"""How many damaged keys and fields an error names."""

_DIGEST = re.compile(rb"[0-9a-f]+")
_RESERVATION = re.compile(rb"\d+ \d+ .*", re.DOTALL)


_DONE = msgspec.msgpack.Decoder(bool)


def repair(server: RedisClient, *, partitions: Iterable[str], lease_us: Span) -> list[str]:
    """Repair the keys; return the full names of the keys that held no data of this store.

    Args:
        server: the server.
        partitions: the partitions of this process, which may have no row any more.
        lease_us: the lease of claimed runs whose lease was lost.

    """
    moved = _move_keys(server, _TYPES)
    moved += _move_numbers(server)
    scan = _Scan(partitions)
    for name, check in scan.checks().items():
        moved += _move_fields(server, name, check)
    moved += _move_keys(server, scan.dynamic_types())
    for manifest in sorted(scan.manifests):
        moved += _move_fields(server, f"config:{manifest}", _check_digest)
    names = {f"history:{task}" for task in scan.tasks} | {"history"}
    if any(not server.command("EXISTS", server.key(name)) for name in names):
        _reindex(server)
    server.run(
        "rebuild",
        _DONE,
        lease=lease_us,
        partitions=sorted(scan.partitions),
        tasks=sorted(scan.tasks),
        unfinished=sorted(scan.unfinished),
        newest_manifest=scan.newest_manifest,
    )
    return moved


def damage_error(
    server: RedisClient, moved: Sequence[str], error: Exception
) -> StoreUnavailableError:
    """Return the error to raise when a call has met damaged data and *moved* was moved aside."""
    if not moved:
        return StoreRefusedError(f"{server.name}: a value cannot be used: {error}")
    more = f" and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else ""
    return StorageReplacedError(
        f"{server.name}: expected data of pulse in {', '.join(moved[:MOST_NAMED])}{more}; what was"
        f" there instead was moved to {server.key(ASIDE)}, and tasks of the configuration that are"
        " missing are stored again as new ones"
    )


def read_layout(server: RedisClient) -> int:
    """Return the version of the keys; that of this release if there are none.

    Raises:
        StoreRefusedError: the value is no number; the keys may be those of another release.

    """
    key = server.key("layout")
    found = server.command("GET", key)
    if found is None:
        return LAYOUT
    if not found.isdigit():
        raise StoreRefusedError(
            f"{server.name}: {key}: expected a number, got {shown(found)}; if no other release of"
            f" pulse uses these keys, set it to {LAYOUT}"
        )
    return int(found)


class _Scan:
    """Checks the fields of the hashes, and notes what a rebuild needs.

    A check raises MsgspecError or ValueError for a value that is no data of this store.
    """

    __slots__ = ("manifests", "newest_manifest", "partitions", "tasks", "unfinished")

    def __init__(self, partitions: Iterable[str]) -> None:
        self.partitions: set[str] = set(partitions)
        self.tasks: set[str] = set()
        self.unfinished: set[str] = set()
        self.manifests: set[str] = set()
        self.newest_manifest: int = 0

    def checks(self) -> dict[str, Check]:
        """Return the check of each hash."""
        return {
            "rows": self._check_row,
            "runs": self._check_run,
            "configs": self._check_manifest,
            "members": lambda _, value: member_row(value, 0),
            "open": _check_count,
            "unheld": _check_count,
            "reserved": _check_reservation,
        }

    def dynamic_types(self) -> dict[str, str]:
        """Return the types of the keys whose names depend on the data."""
        types = {f"history:{task}": "zset" for task in self.tasks}
        types |= {f"config:{manifest}": "hash" for manifest in self.manifests}
        for partition in self.partitions:
            types[f"due:{partition}"] = types[f"unheld:{partition}"] = "zset"
            if partition:
                types[f"rows:{partition}"] = "set"
        return types

    def _check_row(self, field: bytes, value: bytes) -> None:
        row = row_of(value)
        _compare(field, row.task_key)
        self.partitions.add(row.partition)
        self.tasks.add(row.task)

    def _check_run(self, field: bytes, value: bytes) -> None:
        run = run_of(value)
        _compare(field, run.id)
        self.tasks.add(run.task)
        if run.outcome is None:
            self.partitions.add(run.partition)
            self.unfinished.add(run.id)

    def _check_manifest(self, field: bytes, value: bytes) -> None:
        number, text = MANIFEST.decode(value)
        msgspec.json.decode(text)
        self.newest_manifest = max(self.newest_manifest, number)
        self.manifests.add(field.decode())


def _compare(field: bytes, key: str) -> None:
    if field != key.encode():
        raise ValueError(key)


def _check_count(field: bytes, value: bytes) -> None:
    if field:  # the field without a name has a long value, see heartbeat.lua
        int(value)


def _check_digest(field: bytes, value: bytes) -> None:
    if field and _DIGEST.fullmatch(value) is None:
        raise ValueError(value)


def _check_reservation(field: bytes, value: bytes) -> None:
    if field and _RESERVATION.fullmatch(value) is None:
        raise ValueError(value)


def _move_keys(server: RedisClient, types: Mapping[str, str]) -> list[str]:
    """Move keys of another type aside; return their full names."""
    moved: list[str] = []
    names = list(types)
    for start in range(0, len(names), _PAGE):
        page = names[start : start + _PAGE]
        replies = server.commands(*(("TYPE", server.key(name)) for name in page))
        wrong = [
            name
            for name, reply in zip(page, replies, strict=True)
            if _text(reply) not in {"none", types[name]}
        ]
        for name in wrong:
            server.command("RENAME", server.key(name), server.key(f"{ASIDE}:{name}"))
            moved.append(server.key(name))
    return moved


def _move_numbers(server: RedisClient) -> list[str]:
    """Move strings that are no numbers aside; return the full names of their keys."""
    keys = [server.key(name) for name in _NUMBERS]
    values = server.command("MGET", *keys)
    wrong = [
        (name, key)
        for name, key, value in zip(_NUMBERS, keys, values, strict=True)
        if value is not None and not value.isdigit()
    ]
    for name, key in wrong:
        server.command("RENAME", key, server.key(f"{ASIDE}:{name}"))
    return [key for _, key in wrong]


def _move_fields(server: RedisClient, name: str, check: Check) -> list[str]:
    """Move the bad fields of a hash aside; return their names."""
    bad = [*_bad_fields(server, name, check)]
    for field in bad:
        value = server.command("HGET", server.key(name), field)
        if value is not None:
            server.command("HSET", server.key(ASIDE), name.encode() + b" " + field, value)
        server.command("HDEL", server.key(name), field)
    return [f"{server.key(name)} (field {_text(field)!r})" for field in bad]


def _bad_fields(server: RedisClient, name: str, check: Check) -> Iterator[bytes]:
    """Yield the fields of a hash whose values are neither valid nor JSON of another form."""
    for field, value in _fields(server, name):
        try:
            check(field, value)
        except (msgspec.MsgspecError, ValueError):
            if not _is_array(value):
                yield field


def _is_array(value: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(value), list)
    except msgspec.MsgspecError:
        return False


def _fields(server: RedisClient, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the fields of a hash; other processes may change it meanwhile."""
    cursor = 0
    while True:
        cursor, page = server.command("HSCAN", server.key(name), cursor, "COUNT", _PAGE)
        yield from page.items()
        if not cursor:
            return


def _reindex(server: RedisClient) -> None:
    """Add all runs to the history, a page after the other."""
    page: list[Message] = []
    flush = partial(_add_to_history, server, page)
    for _, value in _fields(server, "runs"):
        try:
            run = run_of(value)
        except msgspec.MsgspecError:
            continue
        page.append({"id": run.id, "task": run.task, "number": _number_of(run)})
        if len(page) >= _PAGE:
            flush()
    flush()


def _add_to_history(server: RedisClient, page: list[Message]) -> None:
    if page:
        server.run("reindex", _DONE, runs=page)
    page.clear()


def _number_of(run: Run) -> Instant:
    """Return a history number for a run whose number is lost: history numbers are instants."""
    return run.claimed_at or run.started_at or run.fire_time


def _text(value: bytes | str) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
