"""Rows and runs as the text that Redis keeps, and the beginnings by which they are compared.

A record is a JSON array. It begins with what a write compares: a row with its version, a run with
outcome, holder and attempt. So "is it as it was read" is whether it begins as it did, and whoever
looks with `redis-cli` can read it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from pulse.clock import Instant, Span
from pulse.core.planner import Cursor
from pulse.core.run import Attempt, Outcome, Run, Trigger
from pulse.store.base import Member


class Skip(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The row of skipped fire times that a next one may be folded into."""

    oldest: Instant
    count: int
    reason: str


class RedisTaskRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A task's row.

    Attributes:
        version: moves with every change.
        max_concurrent: how many runs may be held.
        parks: whether a fire time that finds no room waits at the cursor, and is no work.
        due_at: when `next_fire` is due.
        order: rises from row to row: of two that are due at once, the older one comes first.
        resumed_at: when the last pause ended, until the next claim.
        skip: the last skip, while nothing else has followed it.
        task_json: what defines a task that was added at run time.

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
        """Its key: where it belongs, and its name."""
        return task_key(self.task, self.partition)

    @property
    def member(self) -> str:
        """Its name in the order of what is due."""
        return f"{self.order:010d}{self.task}"

    @property
    def beginning(self) -> str:
        """What its record begins with, while it is as it was read."""
        return f"[{self.version},"

    def cursor(self) -> Cursor:
        """Return its place in time."""
        delay = 0 if self.next_fire is None or self.due_at is None else self.due_at - self.next_fire
        return Cursor(self.anchor, self.next_fire, self.last_decided, delay)

    def changed(self, **fields: object) -> RedisTaskRow:
        """Return the row with other fields, as its next version."""
        return msgspec.structs.replace(self, version=self.version + 1, **fields)


class RedisMemberRow(NamedTuple):
    """A process's row: when it was last seen, on the server's clock, and what it holds."""

    at: Instant
    config: str
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
_seen = msgspec.json.Decoder(tuple[Instant, str, dict[str, Any]])


def _encode(value: object) -> str:
    # Text, not bytes: Lua's MessagePack does not know them apart, and refuses these.
    return _as_bytes(value).decode()


def task_key(task: str, partition: str) -> str:
    """Return the key of a task's row in a place; the name of a host has no slash."""
    return f"{partition}/{task}"


def run_record(run: Run) -> str:
    """Return a run as it is kept."""
    return _encode([getattr(run, name) for name in _FIELDS])


def run_of(record: str | bytes) -> Run:
    """Return the run of a record."""
    kept = _run.decode(record)
    return Run(**{name: getattr(kept, name) for name in _FIELDS})


def open_beginning(run: Run) -> str:
    """Return what the record of a run begins with while *run* is what it was, and open."""
    parts: list[Any] = [None, run.holder, run.attempt]
    return _encode(parts)[:-1] + ","


def row_record(row: RedisTaskRow) -> str:
    """Return a row as it is kept."""
    return _encode(row)


def row_of(record: str | bytes) -> RedisTaskRow:
    """Return the row of a record."""
    return _row.decode(record)


def member_record(config: str, member: Member) -> str:
    """Return a process's record but for its beginning, the instant at which it was seen."""
    return _encode([config, member])[1:]


def member_of(record: str | bytes) -> RedisMemberRow:
    """Return the process of a record."""
    at, config, words = _seen.decode(record)
    return RedisMemberRow(at, config, Member(**words))
