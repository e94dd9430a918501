"""Sends change sets to `apply.lua`, which describes the messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.core.records import PAUSED_REASON
from pulse.store.redis.codec import (
    due_member,
    indexed_at,
    row_beginning,
    row_record,
    run_record,
    unfinished_beginning,
)
from pulse.store.shared.changes import Applied
from pulse.store.shared.rows import task_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.store.redis.client import RedisClient
    from pulse.store.shared.changes import ChangeSet, RunChange, TaskChange

    Message = dict[str, object]

CHUNK = 500
"""How many changes one script call makes at most, since all other clients wait meanwhile."""

_REPLY = msgspec.msgpack.Decoder(Applied)


def apply(server: RedisClient, changes: ChangeSet) -> Applied:
    """Apply a change set by one call of the script, or by several if it has many changes."""
    if len(changes.tasks) + len(changes.runs) <= CHUNK or changes.closed or changes.trimmed:
        return _apply_part(server, changes)
    done: dict[int, bool] = {}
    due: list[Instant | None] = []
    existing: set[str] = set()
    for part in _parts_of(changes):
        applied = _apply_part(server, part)
        done.update(zip(map(id, part.tasks), applied.tasks, strict=True))
        done.update(zip(map(id, part.runs), applied.runs, strict=True))
        due += applied.due
        existing |= applied.existing
    tasks = [done[id(change)] for change in changes.tasks]
    runs = [done[id(change)] for change in changes.runs]
    return Applied((), tasks, runs, due, frozenset(existing))


def _parts_of(changes: ChangeSet) -> Iterator[ChangeSet]:
    """Yield the change set of each call; the change of a row shares it with those of its runs."""
    groups: dict[str, tuple[list[TaskChange], list[RunChange]]] = {
        change.row.task_key: ([change], []) for change in changes.tasks
    }
    for run in changes.runs:
        key = task_key(run.was.task, run.was.partition)
        groups.setdefault(key if key in groups else run.was.id, ([], []))[1].append(run)
    tasks: list[TaskChange] = []
    runs: list[RunChange] = []
    for own_tasks, own_runs in groups.values():
        size = len(tasks) + len(runs)
        if size and size + len(own_tasks) + len(own_runs) > CHUNK:
            yield changes._replace(tasks=tasks, runs=runs)
            tasks, runs = [], []
        tasks += own_tasks
        runs += own_runs
    yield changes._replace(tasks=tasks, runs=runs)


def _apply_part(server: RedisClient, changes: ChangeSet) -> Applied:
    return server.run(
        "apply",
        _REPLY,
        lease=changes.lease_us,
        keep=changes.keep_runs,
        closed=[*map(_run_message, changes.closed)],
        rows=[*map(_row_message, changes.tasks)],
        runs=[*map(_run_message, changes.runs)],
        released=changes.released,
        trimmed=changes.trimmed,
        paused=PAUSED_REASON,
    )


def _row_message(change: TaskChange) -> Message:
    row, was = change.row, change.was
    runs = [_new_run(run) for run in change.runs]
    if change.folded is not None:
        runs.append(_new_run(change.folded, folds=True))
    message: Message = {
        "partition": row.partition,
        "task": row.task,
        "member": due_member(row),
        "was": "" if was is None else row_beginning(was),
        "record": row_record(row),
        "runs": runs,
        "due": indexed_at(row),
    }
    if change.moves_only:
        message["decides"] = True
    else:
        message["archived"] = row.archived_at
        message["returned"] = change.returned
        message["paused"] = row.paused if change.follows_pause else None
    return message


def _new_run(run: Run, *, folds: bool = False) -> Message:
    return {"id": run.id, "record": run_record(run), "at": run.retry_at, "folds": folds}


def _run_message(change: RunChange) -> Message:
    was, run = change.was, change.run
    message: Message = {
        "id": was.id,
        "partition": was.partition,
        "task": was.task,
        "was": unfinished_beginning(was),
    }
    if run is not None:
        message["record"], message["at"] = run_record(run), run.retry_at
    if change.guarded and change.row is not None:
        message["row"] = row_beginning(change.row)
    if change.max_claimed is not None:
        message["max_claimed"] = change.max_claimed
    if change.mark is not None:
        message["lease"] = change.mark
    if change.lease_us is not None:
        message["wait"] = change.lease_us
    return message
