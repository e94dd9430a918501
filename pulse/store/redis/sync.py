"""Syncs the rows of configured tasks: adds and changes rows, and restores archived ones.

`new_row`, `changed_row` and `returned_row` also serve tasks that are added at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.core.planner import due_at, first_cursor
from pulse.core.policies import Misfire, OnAbandoned, Scope
from pulse.core.run import Outcome, Trigger
from pulse.core.run_transitions import not_run_record, pending_run
from pulse.store.base import SyncResult
from pulse.store.redis.changes import apply_rows, create_run, row_change
from pulse.store.redis.codec import RedisTaskRow, task_key
from pulse.store.redis.orphans import change_with_pending
from pulse.store.redis.tasks import TRIES, new_orders, read_keys, too_busy
from pulse.store.reschedule import change_cursor, schedule_text
from pulse.store.rules import CONFIG, RUNTIME, new_run_id, partition_of
from pulse.store.shared.manifests import is_current, own_definition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pulse.clock import Instant
    from pulse.core.planner import Cursor
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.store.redis.changes import RowChange
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.due import RedisCaller
    from pulse.store.redis.tasks import TaskSnapshot
    from pulse.store.shared.manifests import ActiveDefinitions


class ChangedRow(NamedTuple):
    """A row with another definition, the change, and the records of fire times that it misses."""

    row: RedisTaskRow
    change: RowChange
    missed: Sequence[Run]


class _Step(NamedTuple):
    """One step of a sync: what happens to a task, the change of its row, and what that misses.

    Attributes:
        kind: added, changed, superseded, or displaced (the row of a run-time task is archived).
        change: None when nothing is written.

    """

    kind: str
    definition: TaskDefinition
    change: RowChange | None = None
    missed: Sequence[Run] = ()


def new_row(
    one: TaskDefinition,
    partition: str,
    *,
    order: int,
    now: Instant,
    paused: bool,
    task_json: str | None = None,
) -> RowChange:
    """Return the change that adds the row of a new task, with its start-up run."""
    row = _row(
        one, partition, order=order, cursor=first_cursor(one, now), version=1, task_json=task_json
    )
    row = msgspec.structs.replace(row, paused=paused)
    return row_change(row, was=None, runs=map(create_run, _startup(one, partition, now)))


def returned_row(
    was: RedisTaskRow,
    one: TaskDefinition,
    *,
    now: Instant,
    paused: bool,
    task_json: str | None = None,
) -> RowChange:
    """Return the change that restores an archived row like a new one.

    Only the last decided fire time is kept, so that no tick runs twice.
    """
    cursor = first_cursor(one, now, last_decided=was.last_decided)
    row = _changed(was, one, cursor, task_json)
    row = msgspec.structs.replace(row, paused=paused)
    startup = map(create_run, _startup(one, was.partition, now))
    return row_change(row, was=was, runs=startup, returned=True)


def changed_row(
    was: RedisTaskRow,
    one: TaskDefinition,
    *,
    space: str,
    now: Instant,
    task_json: str | None = None,
) -> ChangedRow:
    """Return the change of a row to another definition; the cursor moves only with the schedule."""
    cursor, missed = change_cursor(
        one, was.cursor(), before=was.schedule, paused=was.paused, now=now
    )
    row = _changed(was, one, cursor, task_json)
    row = msgspec.structs.replace(row, paused=was.paused, resumed_at=was.resumed_at, skip=was.skip)
    if missed is None:
        return ChangedRow(row, row_change(row, was=was), ())
    row = msgspec.structs.replace(row, skip=None)
    run = not_run_record(
        space, was.task, partition=was.partition, passed=missed, outcome=Outcome.MISSED
    )
    return ChangedRow(row, row_change(row, was=was, runs=[create_run(run)]), [run])


def sync_rows(server: RedisClient, caller: RedisCaller, active: ActiveDefinitions) -> SyncResult:
    """Add and change the rows for which this process's definition is active.

    A configured task replaces a run-time task of the same name.
    """
    names: dict[str, set[str]] = {"added": set(), "changed": set(), "superseded": set()}
    overridden: set[str] = set()
    missed: list[Run] = []
    left: Sequence[TaskDefinition] = list(caller.definitions.values())
    for _ in range(TRIES):
        found = read_keys(
            server, sorted({row_key for one in left for row_key in _row_keys(caller, one)})
        )
        overridden |= {row.task for row in found.rows.values() if _is_added(row)}
        steps = [*_sync_steps(server, caller, left, active=active, found=found)]
        steps.sort(key=lambda step: step.kind != "changed")  # missed fire times are recorded first
        done, left = _write_steps(server, steps)
        for step in done:
            names.setdefault(step.kind, set()).add(step.definition.name)
            missed += step.missed
        if not left:
            return SyncResult(
                added=_in_order(caller, names["added"]),
                changed=_in_order(caller, names["changed"]),
                superseded=_in_order(caller, names["superseded"]),
                overridden=_in_order(caller, overridden),
                missed=missed,
            )
    raise too_busy(server)


def hides(caller: RedisCaller, row: RedisTaskRow) -> bool:
    """Return whether a run-time task has the name of a task that this process declares elsewhere.

    Elsewhere means in another partition: the configured task is not one of the fleet.
    """
    declared = row.task in caller.definitions
    return (
        _is_added(row)
        and declared
        and own_definition(row, caller.member, caller.definitions) is None
    )


def _row_keys(caller: RedisCaller, one: TaskDefinition) -> set[str]:
    """Return the key of the task's row, and of a run-time task with the same name."""
    return {task_key(one.name, partition_of(one.scope, caller.member)), task_key(one.name, "")}


def _is_added(row: RedisTaskRow) -> bool:
    return row.source == RUNTIME and row.archived_at is None


def _in_order(caller: RedisCaller, names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in caller.definitions if name in names)


def _sync_steps(
    server: RedisClient,
    caller: RedisCaller,
    left: Iterable[TaskDefinition],
    *,
    active: ActiveDefinitions,
    found: TaskSnapshot,
) -> Iterator[_Step]:
    added: list[TaskDefinition] = []
    for one in left:
        row = found.rows.get(task_key(one.name, partition_of(one.scope, caller.member)))
        if row is None:
            added.append(one)
        else:
            yield from _row_steps(row, caller, one, active=active, found=found)
        if one.scope is not Scope.FLEET:
            yield from _displacing_steps(
                found.rows.get(task_key(one.name, "")), caller, one, found=found
            )
    for one, order in zip(added, new_orders(server, len(added)), strict=True):
        partition, paused = partition_of(one.scope, caller.member), one.name in found.paused
        change = new_row(one, partition, order=order, now=found.now, paused=paused)
        yield _Step("added", one, change)


def _row_steps(
    row: RedisTaskRow,
    caller: RedisCaller,
    one: TaskDefinition,
    *,
    active: ActiveDefinitions,
    found: TaskSnapshot,
) -> Iterator[_Step]:
    if row.archived_at is not None:
        paused = one.name in found.paused
        yield _Step("added", one, returned_row(row, one, now=found.now, paused=paused))
    elif row.digest == one.digest and row.source != RUNTIME:
        return
    elif is_current(active, row, one):
        changed = changed_row(row, one, space=caller.space, now=found.now)
        yield _Step("changed", one, changed.change, changed.missed)
    else:
        yield _Step("superseded", one)


def _displacing_steps(
    row: RedisTaskRow | None, caller: RedisCaller, one: TaskDefinition, *, found: TaskSnapshot
) -> Iterator[_Step]:
    """Archive a run-time task whose name is declared here with scope `host` or `process`."""
    if row is not None and hides(caller, row):
        archived = row.changed(archived_at=found.now)
        yield _Step("displaced", one, row_change(archived, was=row))


def _write_steps(
    server: RedisClient, steps: Sequence[_Step]
) -> tuple[list[_Step], list[TaskDefinition]]:
    """Write the steps; return those that were made, and the tasks of refused changes."""
    new = [step.change for step in steps if step.change is not None and not step.change.was]
    known = [step.change for step in steps if step.change is not None and step.change.was]
    wrote = iter([*change_with_pending(server, known), *apply_rows(server, new)])
    done: list[_Step] = []
    refused: dict[str, TaskDefinition] = {}
    for step in steps:
        if step.change is None or next(wrote):
            done.append(step)
        else:
            refused[step.definition.name] = step.definition
    return done, list(refused.values())


def _startup(one: TaskDefinition, partition: str, now: Instant) -> list[Run]:
    if not one.run_at_start:
        return []
    return [
        pending_run(new_run_id(), one.name, partition=partition, trigger=Trigger.STARTUP, now=now)
    ]


def _changed(
    was: RedisTaskRow, one: TaskDefinition, cursor: Cursor, task_json: str | None
) -> RedisTaskRow:
    version = was.version + 1
    return _row(
        one, was.partition, order=was.order, cursor=cursor, version=version, task_json=task_json
    )


def _row(
    one: TaskDefinition,
    partition: str,
    *,
    order: int,
    cursor: Cursor,
    version: int,
    task_json: str | None,
) -> RedisTaskRow:
    return RedisTaskRow(
        version=version,
        digest=one.digest,
        max_concurrent=one.max_concurrent,
        parks=one.misfire is Misfire.ALL and one.grace_us is None,
        source=CONFIG if task_json is None else RUNTIME,
        task=one.name,
        partition=partition,
        scope=one.scope.value,
        schedule=schedule_text(one.schedule),
        max_unfinished=one.max_unfinished,
        rerun=one.on_abandoned is OnAbandoned.RERUN,
        anchor=cursor.anchor,
        next_fire=cursor.next_fire,
        due_at=due_at(cursor),
        last_decided=cursor.last_decided,
        order=order,
        task_json=task_json,
    )
