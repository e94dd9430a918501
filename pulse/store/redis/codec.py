"""The keys of the Redis store, and the records that they hold.

A record is a JSON array, which `redis-cli` shows as text. It begins with the fields that a write
compares: the version of a row; outcome, holder and attempt of a run. "Is the record unchanged since
it was read?" is then one comparison: does it still begin with the same text, up to and including
the comma after these fields? (`RedisTaskRow.beginning`, `unfinished_beginning`.)

The order of the fields of `RedisTaskRow` and `_RunRecord` is part of the stored format, and the
scripts rely on it. A new field has a default and goes to the end. Where the scripts depend on the
order:

* `read_due.lua` matches version, digest, max_concurrent, parks and source at the start of a row;
* `common.lua` and `read_due.lua` compare the beginning of a run, `[null,"holder",attempt,`;
* `read_orphans.lua` reads the holder of a run as element 2, `prune.lua` the task as element 5.

All keys of an application begin with `{pulse:<slug>-<hash>}:`
(`pulse.store.redis.store.prefix_of`). A *row key* is `<partition>/<task>`; for the partition of the
whole fleet it begins with the slash. In key names and records, `unheld` means pending, `open`
unfinished, `config` manifest, `places` partitions: the stored names are older than the glossary.

| key | type | content |
|---|---|---|
| `layout` | string | version of this format (`pulse.store.redis.members.LAYOUT`) |
| `rows` | hash | row key -> row record |
| `runs` | hash | run id -> run record |
| `open` | hash | row key -> number of unfinished runs |
| `unheld` | hash | row key -> number of pending runs |
| `reserved` | hash | row key -> `<until> <poll> <holder>`, see `read_due.lua` |
| `due:<partition>` | sorted set | `<order, 10 digits><task>`, score `due_at`; unpaused rows only |
| `unheld:<partition>` | sorted set | `<number, 16 digits><run id><task>`, score `retry_at` |
| `leases` | sorted set | id of a claimed run, score: end of the lease on the server's clock |
| `history` | sorted set | run id, score: history number, which orders all runs |
| `history:<task>` | sorted set | the same, of one task |
| `last` | string | the history number that was given last |
| `orders` | string | the order that was given to a row last |
| `archived` | sorted set | row key, score `archived_at` |
| `paused` | set | names of paused tasks |
| `places` | set | partitions that have rows |
| `rows:<partition>` | set | tasks with a row in that partition; of hosts and processes only |
| `members` | hash | holder -> `[seen at, manifest key, member]` |
| `configs` | hash | manifest key -> `[number, manifest]` |
| `born` | string | the number that was given to a manifest last |
| `config:<manifest key>` | hash | task -> digest |

Some hashes have a field with an empty name and a long value, which makes Redis use a hash table.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from pulse.clock import Instant, Span
from pulse.core.planner import Cursor
from pulse.core.run import Attempt, Outcome, Run, Trigger
from pulse.store.base import Member


class Skip(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last skip of a task, into whose record a next skip is folded."""

    oldest: Instant
    count: int
    reason: str


class RedisTaskRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A task row. The order of the fields is stored; see the module's docstring.

    Attributes:
        version: rises with every change.
        digest: the digest of the definition.
        max_concurrent: how many runs of the row may be claimed at once.
        parks: whether a due fire time waits at the cursor while `max_concurrent` runs are claimed.
        source: `config` or `runtime`.
        max_unfinished: how many runs of the row may be claimed or pending at once.
        rerun: whether an abandoned run is dispatched again.
        due_at: when `next_fire` is due: with `jitter`, later than `next_fire`.
        order: rises from row to row: of two rows that are due at once, the older one comes first.
        resumed_at: when the last pause ended, until the next claim.
        skip: the last skip; None after anything else happened.
        task_json: the settings of a run-time task.

    """

    version: int
    digest: str
    max_concurrent: int
    parks: bool
    source: str
    task: str
    partition: str
    scope: str
    schedule: str
    max_unfinished: int
    rerun: bool
    anchor: Instant
    next_fire: Instant | None
    due_at: Instant | None
    last_decided: Instant
    order: int
    paused: bool = False
    resumed_at: Instant | None = None
    skip: Skip | None = None
    archived_at: Instant | None = None
    task_json: str | None = None

    @property
    def task_key(self) -> str:
        """The row key: partition and task name."""
        return task_key(self.task, self.partition)

    @property
    def member(self) -> str:
        """The member of the row in the sorted set `due:<partition>`."""
        return f"{self.order:010d}{self.task}"

    @property
    def beginning(self) -> str:
        """The text with which the record begins while this version is current."""
        return f"[{self.version},"

    def cursor(self) -> Cursor:
        """Return the position of the row in its schedule."""
        delay = 0 if self.next_fire is None or self.due_at is None else self.due_at - self.next_fire
        return Cursor(self.anchor, self.next_fire, self.last_decided, delay)

    def changed(self, **fields: object) -> RedisTaskRow:
        """Return the next version of the row, with other values in *fields*."""
        return msgspec.structs.replace(self, version=self.version + 1, **fields)


class RedisMemberRow(NamedTuple):
    """A member; when it was last seen, on the server's clock; and the key of its manifest."""

    seen_at: Instant
    manifest: str
    member: Member


class _RunRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    outcome: Outcome | None
    holder: str
    attempt: int
    id: str
    task: str
    partition: str
    fire_time: Instant
    scheduled_for: Instant | None
    trigger: Trigger
    claimed_at: Instant | None
    started_at: Instant | None
    took_us: Span | None
    status: int | None
    message: str
    count: int
    retry_at: Instant | None
    body: bytes | None
    attempts: tuple[Attempt, ...]


_FIELDS = _RunRecord.__struct_fields__
_as_bytes = msgspec.json.Encoder().encode
_run = msgspec.json.Decoder(_RunRecord)
_row = msgspec.json.Decoder(RedisTaskRow)
_member = msgspec.json.Decoder(tuple[Instant, str, dict[str, Any]])


def _encode(value: object) -> str:
    # Text, since the MessagePack of Redis's Lua cannot decode the binary type.
    return _as_bytes(value).decode()


def task_key(task: str, partition: str) -> str:
    """Return the row key of a task; unique, since names of hosts and holders have no slash."""
    return f"{partition}/{task}"


def run_record(run: Run) -> str:
    """Return the record of a run."""
    return _encode([getattr(run, name) for name in _FIELDS])


def run_of(record: str | bytes) -> Run:
    """Return the run of a record."""
    stored = _run.decode(record)
    return Run(**{name: getattr(stored, name) for name in _FIELDS})


def unfinished_beginning(run: Run) -> str:
    """Return the text with which the record begins while *run* is unchanged and unfinished."""
    parts: list[Any] = [None, run.holder, run.attempt]
    return _encode(parts)[:-1] + ","


def row_record(row: RedisTaskRow) -> str:
    """Return the record of a row."""
    return _encode(row)


def row_of(record: str | bytes) -> RedisTaskRow:
    """Return the row of a record."""
    return _row.decode(record)


def member_record(manifest: str, member: Member) -> str:
    """Return the record of a member without its beginning, which `heartbeat.lua` adds."""
    return _encode([manifest, member])[1:]


def member_of(record: str | bytes) -> RedisMemberRow:
    """Return the member of a record."""
    seen_at, manifest, fields = _member.decode(record)
    return RedisMemberRow(seen_at, manifest, Member(**fields))
