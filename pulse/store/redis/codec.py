"""Rows and runs as the text that Redis keeps, and the beginnings by which they are compared.

A record is a JSON array. It begins with what a write compares: a row with its version, a run with
outcome, holder and attempt. So "is it as it was read" is whether it begins as it did, and whoever
looks with `redis-cli` can read it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from pulse.clock import Instant, Span
from pulse.core.run import Attempt, Outcome, Run, Trigger
from pulse.store.base import Member
from pulse.store.shared.rows import TaskRow


class RedisTaskRow(TaskRow, frozen=True, array_like=True, kw_only=True, gc=False):
    """A task row as Redis keeps it: an array of the fields of `TaskRow`, in their order."""


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
_ROW_FIELDS = TaskRow.__struct_fields__
_as_bytes = msgspec.json.Encoder().encode
_run = msgspec.json.Decoder(_RunRecord)
_row = msgspec.json.Decoder(RedisTaskRow)
_seen = msgspec.json.Decoder(tuple[Instant, str, dict[str, Any]])


def _encode(value: object) -> str:
    # Text, not bytes: Lua's MessagePack does not know them apart, and refuses these.
    return _as_bytes(value).decode()


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


def row_record(row: TaskRow) -> str:
    """Return a row as it is kept."""
    return _encode([getattr(row, name) for name in _ROW_FIELDS])


def row_of(record: str | bytes) -> TaskRow:
    """Return the row of a record."""
    return _row.decode(record)


def row_beginning(row: TaskRow) -> str:
    """Return what the record of a row begins with while the row is as it was read."""
    return f"[{row.version},"


def due_member(row: TaskRow) -> str:
    """Return the name of a row in the sorted set of what is due."""
    return f"{row.order:010d}{row.task}"


def member_record(config: str, member: Member) -> str:
    """Return a process's record but for its beginning, the instant at which it was seen."""
    return _encode([config, member])[1:]


def member_of(record: str | bytes) -> RedisMemberRow:
    """Return the process of a record."""
    at, config, words = _seen.decode(record)
    return RedisMemberRow(at, config, Member(**words))
