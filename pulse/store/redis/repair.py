"""Repairs the keys of an application after a loss, or after another program has overwritten them.

Theory of operation
-------------------
Rows, runs and manifests are the data; every other key is an index or a counter that can be made
from them. A repair

1. moves what is no data of this store aside: a key of another type to `corrupt:<key>`, a field of a
   hash that has another form to the hash `corrupt`;
2. adds runs to the indexes of the history that were lost;
3. makes the other indexes and counters again in one step, and empties the list of members
   (`rebuild.lua`): each process that lives finds that it is not listed, and syncs. So the rows that
   were lost are added by the processes that declare their tasks.

A record that is JSON of another form may have been written by a newer release: it stays.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from pulse.errors import StoreRefusedError, shown
from pulse.store.redis.codec import LAYOUT, run_of
from pulse.store.shared.backend import StorageReplacedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pulse.core.run import Run
    from pulse.errors import StoreUnavailableError
    from pulse.store.redis.client import RedisClient

_TYPES = {
    **dict.fromkeys(("rows", "runs", "members", "configs", "config:"), "hash"),
    **dict.fromkeys(("open", "unheld", "reserved", "pauses"), "hash"),
    **dict.fromkeys(("stops", "definitions", "reports", "last_versions", "serving"), "hash"),
    **dict.fromkeys(("tallies:", "refused", "trimmed", "upkeep", "waits"), "hash"),
    "served": "zset",
    "versions:": "list",
    **dict.fromkeys(("leases", "archived", "due:", "unheld:", "history", "history:"), "zset"),
    "audit": "zset",
    **dict.fromkeys(("paused", "places", "rows:"), "set"),
    **dict.fromkeys(("last", "orders", "born", "audits", "fleet_pause"), "string"),
}
"""The type of each key; of keys that differ behind a colon, by the text up to the colon."""

_FORMS = {
    **dict.fromkeys(("last", "orders", "born", "audits"), re.compile(rb"\d+")),
    **dict.fromkeys(("open", "unheld"), re.compile(rb"-?\d+")),
    "reserved": re.compile(rb"\d+ \d+ .*", re.DOTALL),
    "config:": re.compile(rb"[0-9a-f]+"),
    "fleet_pause": re.compile(rb"\[.*\]", re.DOTALL),
    **dict.fromkeys(("trimmed", "upkeep", "waits"), re.compile(rb"\d+")),
    "serving": re.compile(rb"\d{16} .*", re.DOTALL),
}
"""The form of the values of some keys; the values of other hashes are JSON arrays."""

_PAGE, _KEYS = 1_000, 10_000
_DONE = msgspec.msgpack.Decoder(bool)
ASIDE = "corrupt"
"""The hash of fields that were moved aside; keys are moved to this name, a colon, and their own."""

MOST_NAMED = 10
"""How many damaged keys and fields an error names."""


def repair(server: RedisClient, *, partitions: Iterable[str], lease_us: int) -> list[str]:
    """Repair the keys; return the full names of the keys that held no data of this store.

    Args:
        server: the server.
        partitions: the partitions of this process, which may have no row any more.
        lease_us: the lease of claimed runs whose lease was lost.

    """
    types = _read_types(server)
    wrong = sorted(name for name in types if not _has_form(server, name, types[name]))
    for name in wrong:
        server.command("RENAME", server.key(name), server.key(f"{ASIDE}:{name}"))
    moved = [server.key(name) for name in wrong]
    names = sorted(types.keys() - set(wrong))
    for name in names:
        if _TYPES.get(_kind_of(name)) == "hash":
            moved += _move_fields(server, name)
    unfinished = _scan_runs(server, frozenset(names))
    server.run(
        "rebuild",
        _DONE,
        lease=lease_us,
        partitions=sorted({*partitions, *unfinished.values()}),
        unfinished=[*unfinished],
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


def read_layout(server: RedisClient) -> int | None:
    """Return the version of the keys; None if there are none.

    Raises:
        StoreRefusedError: the value is no number; the keys may be those of another release.

    """
    key = server.key("layout")
    found = server.command("GET", key)
    if found is None:
        return None
    if not found.isdigit():
        raise StoreRefusedError(
            f"{server.name}: {key}: expected a number, got {shown(found)}; if no other release of"
            f" pulse uses these keys, set it to {LAYOUT}"
        )
    return int(found)


def _read_types(server: RedisClient) -> dict[str, str]:
    """Return the types of all keys of the application, by name without the prefix."""
    types: dict[str, str] = {}
    prefix, cursor = len(server.key("").encode()), 0
    while True:
        cursor, page = server.command("SCAN", cursor, "MATCH", server.key("*"), "COUNT", _KEYS)
        names = [_text(key[prefix:]) for key in page]
        _, found = server.batch(*(("TYPE", name) for name in names))
        types.update(zip(names, found, strict=True))
        if not cursor:
            return types


def _kind_of(name: str) -> str:
    head, colon, _ = name.partition(":")
    return head + colon


def _has_form(server: RedisClient, name: str, found: str) -> bool:
    """Return whether a key has the type that its name requires, and a number its form."""
    kind = _kind_of(name)
    if kind not in _TYPES or found == "none":
        return True
    if found != "string" or found != _TYPES[kind]:
        return found == _TYPES[kind]
    value = server.command("GET", server.key(name))
    return value is None or _FORMS[kind].fullmatch(value) is not None


def _move_fields(server: RedisClient, name: str) -> list[str]:
    """Move the bad fields of a hash aside; return their names."""
    key, form = server.key(name), _FORMS.get(_kind_of(name))
    # Hashes of short values have a field without a name and with a long value: see `codec`.
    bad = {
        field: value
        for page in _pages(server, name)
        for field, value in page.items()
        if not (_is_array(value) if form is None else not field or form.fullmatch(value))
    }
    for field, value in bad.items():
        server.command("HSET", server.key(ASIDE), f"{name} ".encode() + field, value)
        server.command("HDEL", key, field)
    return [f"{key} (field {_text(field)!r})" for field in bad]


def _is_array(value: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(value), list)
    except msgspec.MsgspecError:
        return False


def _pages(server: RedisClient, name: str) -> Iterator[dict[bytes, bytes]]:
    """Yield the fields of a hash; other processes may change it meanwhile."""
    cursor = 0
    while True:
        cursor, page = server.command("HSCAN", server.key(name), cursor, "COUNT", _PAGE)
        yield page
        if not cursor:
            return


def _scan_runs(server: RedisClient, names: frozenset[str]) -> dict[str, str]:
    """Add runs to the history where its keys are not among *names*.

    Returns:
        The partitions of unfinished runs, by run id.

    """
    history, indexes = server.key("history"), [one for one in names if one.startswith("history:")]
    if "runs" not in names:
        server.command("DEL", history, *map(server.key, indexes))
    elif "history" not in names and indexes:
        keys = [server.key(name) for name in indexes]
        server.command("ZUNIONSTORE", history, len(keys), *keys, "AGGREGATE", "MAX")
    unfinished: dict[str, str] = {}
    for page in _pages(server, "runs"):
        runs = [run for value in page.values() if (run := _run_or_none(value)) is not None]
        unfinished |= {run.id: run.partition for run in runs if run.outcome is None}
        _index(server, [run for run in runs if not {"history", f"history:{run.task}"} <= names])
    return unfinished


def _run_or_none(value: bytes) -> Run | None:
    try:
        return run_of(value)
    except msgspec.MsgspecError:
        return None


def _index(server: RedisClient, runs: Sequence[Run]) -> None:
    """Add runs to those indexes of the history that lack them, in the order of their creation."""
    _, numbers = server.batch(*(("ZSCORE", "history", run.id) for run in runs))
    server.batch(
        *(
            ("ZADD", key, "NX", number or str(_number_of(run)), run.id)
            for run, number in zip(runs, numbers, strict=True)
            for key in ("history", f"history:{run.task}")
        )
    )


def _number_of(run: Run) -> int:
    """Return a history number for a run whose number is lost: history numbers are instants."""
    return run.claimed_at or run.started_at or run.fire_time


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
