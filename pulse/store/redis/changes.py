"""Sends change sets to `apply.lua`, which describes the messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.store.redis.codec import (
    due_member,
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
    size = len(changes.tasks) + len(changes.runs)
    if size <= CHUNK or changes.closed or changes.trimmed:
        return _apply_part(server, changes)
    tasks, runs = [False] * len(changes.tasks), [False] * len(changes.runs)
    existing: set[str] = set()
    due: list[Instant | None] = []
    for task_numbers, run_numbers in _parts_of(changes):
        part = changes._replace(
            tasks=[changes.tasks[number] for number in task_numbers],
            runs=[changes.runs[number] for number in run_numbers],
        )
        applied = _apply_part(server, part)
        for number, done in zip(task_numbers, applied.tasks, strict=True):
            tasks[number] = done
        for number, done in zip(run_numbers, applied.runs, strict=True):
            runs[number] = done
        existing |= applied.existing
        due += applied.due
    return Applied((), tasks, runs, due, frozenset(existing))


def _parts_of(changes: ChangeSet) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the numbers of the rows and of the runs of each call; a row and its runs share one."""
    groups: dict[str, tuple[list[int], list[int]]] = {
        change.row.task_key: ([number], []) for number, change in enumerate(changes.tasks)
    }
    for number, run in enumerate(changes.runs):
        key = task_key(run.was.task, run.was.partition)
        groups.setdefault(key if key in groups else run.was.id, ([], []))[1].append(number)
    tasks: list[int] = []
    runs: list[int] = []
    for own_tasks, own_runs in groups.values():
        if len(tasks) + len(runs) + len(own_tasks) + len(own_runs) > CHUNK and (tasks or runs):
            yield tasks, runs
            tasks, runs = [], []
        tasks += own_tasks
        runs += own_runs
    yield tasks, runs


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
    )


def _row_message(change: TaskChange) -> Message:
    row, was = change.row, change.was
    in_use = not row.paused and row.archived_at is None
    runs = [_new_run(run) for run in change.runs]
    if change.folded is not None:
        runs.append(_new_run(change.folded, folds=True))
    return {
        "partition": row.partition,
        "task": row.task,
        "member": due_member(row),
        "was": "" if was is None else row_beginning(was),
        "record": row_record(row),
        "runs": runs,
        "due": row.due_at if in_use else None,
        "archived": row.archived_at,
        "returned": change.returned,
        "paused": row.paused if change.follows_pause else None,
    }


def _new_run(run: Run, *, folds: bool = False) -> Message:
    return {
        "id": run.id,
        "record": run_record(run),
        "state": _state_of(run),
        "at": run.retry_at,
        "folds": folds,
    }


def _run_message(change: RunChange) -> Message:
    was, run = change.was, change.run or change.was
    return {
        "id": run.id,
        "partition": run.partition,
        "task": run.task,
        "was": unfinished_beginning(was),
        "record": None if change.run is None else run_record(run),
        "old": _state_of(was),
        "new": _state_of(run),
        "at": run.retry_at,
        "max_claimed": change.max_claimed,
        "lease": change.mark,
        "row": row_beginning(change.row) if change.guarded and change.row is not None else None,
    }


def _state_of(run: Run) -> str:
    """Return the state of a run in the words of `apply.lua`."""
    if run.outcome is not None:
        return "finished"
    return "claimed" if run.holder else "pending"
