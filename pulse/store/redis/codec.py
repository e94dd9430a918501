"""The keys of the Redis store, and the records that they hold.

A record is a JSON array, which `redis-cli` shows as text. It begins with the fields that a write
compares: the version of a row; outcome, holder and attempt of a run. "Is the record unchanged since
it was read?" is then one comparison: does it still begin with the same text, up to and including
the comma after these fields? (`row_beginning`, `unfinished_beginning`.)

The order of the fields of `RedisTaskRow` and `_FIELDS` is part of the stored format, and the
scripts rely on it. A new field has a default and goes to the end. Where the scripts depend on the
order:

* `read_due.lua` matches version, digest, max_concurrent, parks and source at the start of a row;
* `common.lua` and `read_due.lua` compare the beginning of a run, `[null,"holder",attempt,`; that of
  a posted one is `[null,"@queue",`;
* other scripts read elements by number, and name them in a comment.

All keys of an application begin with `{pulse:<slug>-<hash>}:`
(`pulse.store.redis.backend.prefix_of`). A *row key* is `<partition>/<task>`; for the partition of
the whole fleet it begins with the slash. In key names and records, `unheld` means pending, `open`
unfinished, `config` manifest, `places` partitions: the stored names are older than the glossary.

| key | type | content |
|---|---|---|
| `layout` | string | version of this format (`LAYOUT`) |
| `rows` | hash | row key -> row record |
| `runs` | hash | run id -> run record |
| `open` | hash | row key -> number of unfinished runs |
| `unheld` | hash | row key -> number of pending runs |
| `reserved` | hash | row key -> `<until> <poll> <holder>`, see `read_due.lua` |
| `due:<partition>` | sorted set | `<order, 10 digits><task>`, score `due_at`; unpaused rows only |
| `unheld:<partition>` | sorted set | `<number, 16 digits><run id><task>`, score `retry_at` |
| `leases` | sorted set | id of a claimed run, score: end of the lease on the server's clock |
| `waits` | hash | id of a posted run -> how long it may wait: the length of its lease |
| `history` | sorted set | run id, score: history number, which orders all runs |
| `history:<task>` | sorted set | the same, of one task |
| `last` | string | the history number that was given last |
| `orders` | string | the order that was given to a row last |
| `archived` | sorted set | row key, score `archived_at` |
| `paused` | set | names of paused tasks |
| `pauses` | hash | name of a paused task -> `[since, until, by, note]` |
| `audit` | sorted set | `[at, number, verb, task, run, by, note, until]`, score: number |
| `audits` | string | the number that was given to an entry of `audit` last |
| `places` | set | partitions that have rows |
| `rows:<partition>` | set | tasks with a row in that partition; of hosts and processes only |
| `fleet_pause` | string | the pause of all tasks, as a value of `pauses` |
| `stops` | hash | id of a claimed run -> `[at, by, note]`: it is to be stopped |
| `definitions` | hash | digest of a task, or manifest key -> `[{setting: text}]` |
| `versions:<task>` | list | `[task, partition, at, schedule, anchor, first, decided, is_exact]` |
| `last_versions` | hash | row key -> the last record of its versions |
| `served` | sorted set | `<since, 16 digits> <partition>`, score: until, see `served.lua` |
| `serving` | hash | partition -> its last member of `served` |
| `tallies:<day>` | hash | task -> counts of deleted runs, see `common.lua`; expires |
| `refused` | hash | run, attempt, holder, start -> an array of `RefusedResult` |
| `trimmed` | hash | task -> history number up to which only runs that are kept longer are left |
| `upkeep` | hash | `prune`, `pass`, `records`: when; `position`: as in `trimmed`, of all tasks |
| `members` | hash | holder -> `[seen at, manifest key, member]` |
| `reports` | hash | holder -> what the process says about itself, an array of `MemberReport` |
| `configs` | hash | manifest key -> `[number, manifest]` |
| `born` | string | the number that was given to a manifest last |
| `config:<manifest key>` | hash | task -> digest |
| `corrupt` | hash | `<key> <field>` -> a value that was no data of this store, see `repair` |
| `corrupt:<key>` | any | a key that had another type or form, see `repair` |

Redis searches a small hash from end to end, unless it holds a value that is longer than
`hash-max-listpack-value` (64 bytes by default). So the hashes that each claim reads have a field
with an empty name and a long value (`FILLER`), which makes Redis use a hash table.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from pulse.clock import Instant
from pulse.core.run import Run
from pulse.store.base import Member
from pulse.store.shared.backend import MemberRow
from pulse.store.shared.rows import TaskRow
from pulse.store.steering import AuditEntry, MemberReport, Pause, StopRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

LAYOUT = 1
"""The version of the keys and records."""

FILLER = "values by row or by task; so long a value makes Redis use a hash table, see codec.py"
"""The value of the field without a name."""


class RedisTaskRow(TaskRow, frozen=True, array_like=True, kw_only=True, gc=False):
    """A task row as Redis keeps it: an array of the fields of `TaskRow`, in their order."""


_FIELDS = (
    "outcome", "holder", "attempt", "id", "task", "partition", "fire_time", "scheduled_for",
    "trigger", "claimed_at", "started_at", "took_us", "status", "message", "count", "retry_at",
    "body", "attempts",
)  # fmt: skip
_TYPES = {field.name: field.type for field in msgspec.structs.fields(Run)}
_RunRecord = msgspec.defstruct(
    "_RunRecord", [(name, _TYPES[name]) for name in _FIELDS], array_like=True, gc=False
)
_values_of = attrgetter(*_FIELDS)
_as_bytes = msgspec.json.Encoder().encode
_run = msgspec.json.Decoder(_RunRecord)
_row = msgspec.json.Decoder(RedisTaskRow)
_member = msgspec.json.Decoder(tuple[Instant, str, dict[str, Any]])
_manifest = msgspec.json.Decoder(tuple[int, str])
_read_entry = attrgetter("verb", "task", "run", "by", "note", "until")
_audit = msgspec.json.Decoder(tuple[Instant, int, str, str, str, str, str, Instant | None])
_pause = msgspec.json.Decoder(Pause)
_count = msgspec.json.Decoder(int)
_report = msgspec.json.Decoder(MemberReport)
_stop = msgspec.json.Decoder(StopRequest)
_settings = msgspec.json.Decoder(tuple[dict[str, str]])


def _encode(value: object) -> str:
    # Text, since the MessagePack of Redis's Lua cannot decode the binary type.
    return _as_bytes(value).decode()


def run_record(run: Run) -> str:
    """Return the record of a run."""
    return _encode(_values_of(run))


def run_of(record: str | bytes) -> Run:
    """Return the run of a record."""
    return Run(**msgspec.structs.asdict(_run.decode(record)))


def unfinished_beginning(run: Run) -> str:
    """Return the text with which the record begins while *run* is unchanged and unfinished."""
    parts: list[Any] = [None, run.holder, run.attempt]
    return _encode(parts)[:-1] + ","


def count_of(value: str | bytes | None) -> int:
    """Return the value of a counter, which may not exist."""
    return 0 if value is None else _count.decode(value)


def pending_run(member: bytes) -> tuple[bytes, bytes]:
    """Return run id and task of a member of the index of pending runs, see `common.lua`."""
    return member[16:48], member[48:]


def row_record(row: TaskRow) -> str:
    """Return the record of a row."""
    return _encode(msgspec.structs.astuple(row))


def row_of(record: str | bytes) -> TaskRow:
    """Return the row of a record."""
    return _row.decode(record)


def row_beginning(row: TaskRow) -> str:
    """Return the text with which the record of a row begins while its version is current."""
    return f"[{row.version},"


def due_member(row: TaskRow) -> str:
    """Return the member of a row in the sorted set `due:<partition>`."""
    return f"{row.order:010d}{row.task}"


def indexed_at(row: TaskRow) -> Instant | None:
    """Return the score of a row in the index of due rows; None for a row that is not in it."""
    return None if row.paused or row.archived_at is not None else row.due_at


def member_record(now: Instant, manifest: str, member: Member) -> str:
    """Return the record of a member; *now* is the server's clock."""
    return _encode([now, manifest, member])


def member_row(record: str | bytes, now: Instant) -> MemberRow:
    """Return the member of a record; *now* is the server's clock."""
    seen_at, manifest, fields = _member.decode(record)
    return MemberRow(Member(**fields), manifest, seen_at, now - seen_at)


def pause_record(pause: Pause) -> str:
    """Return the record of a pause."""
    return _encode(pause)


def pause_of(record: str | bytes) -> Pause:
    """Return the pause of a record."""
    return _pause.decode(record)


def report_record(report: MemberReport) -> str:
    """Return the record of what a process says about itself."""
    return _encode(report)


def report_of(record: str | bytes) -> MemberReport:
    """Return what a process says about itself."""
    return _report.decode(record)


def stop_record(request: StopRequest) -> str:
    """Return the record of a request to stop a run."""
    return _encode(request)


def stop_of(record: str | bytes) -> StopRequest:
    """Return the request of a record."""
    return _stop.decode(record)


def settings_record(settings: Mapping[str, str]) -> str:
    """Return the record of the settings of a definition."""
    return _encode([settings])


def settings_of(record: str | bytes) -> dict[str, str]:
    """Return the settings of a record."""
    return _settings.decode(record)[0]


def audit_record(entry: AuditEntry) -> tuple[str, str]:
    """Return the record of an entry of the audit trail, before and after its number."""
    return f"[{entry.at},", f",{_encode(_read_entry(entry))[1:]}"


def audit_of(record: str | bytes) -> AuditEntry:
    """Return the entry of a record."""
    at, number, verb, task, run, by, note, until = _audit.decode(record)
    return AuditEntry(
        at=at, number=number, verb=verb, task=task, run=run, by=by, note=note, until=until
    )


def manifest_record(number: int, manifest: bytes) -> str:
    """Return the record of a manifest, which holds its text as a string."""
    return _encode([number, manifest.decode()])


def manifest_of(record: str | bytes) -> tuple[int, bytes]:
    """Return number and text of a manifest."""
    number, text = _manifest.decode(record)
    return number, text.encode()
