"""Adds and changes rows: those of declared tasks in a sync, and those of run-time tasks."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.core.cursor import first_cursor
from pulse.core.policies import Scope
from pulse.core.run import Outcome, Trigger
from pulse.core.run_transitions import not_run_record, pending_run
from pulse.core.shown_settings import shown_settings
from pulse.store.base import SyncResult
from pulse.store.reschedule import change_cursor, is_schedule
from pulse.store.rules import RUNTIME, check_addition, new_run_id, partition_of
from pulse.store.shared.backend import MAX_ROUNDS, too_busy
from pulse.store.shared.changes import TaskChange
from pulse.store.shared.manifests import is_current, own_definition
from pulse.store.shared.orphans import apply_with_pending
from pulse.store.shared.records import record_versions
from pulse.store.shared.rows import row_of_definition, task_key
from pulse.store.shared.tasks import apply_tasks
from pulse.store.steering import EVERY_TASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.runtime_task import RuntimeTask
    from pulse.core.task import TaskDefinition
    from pulse.store.shared.backend import Session, Written
    from pulse.store.shared.manifests import ActiveDefinitions
    from pulse.store.shared.rows import Caller, TaskRow, TaskSnapshot


class _Step(NamedTuple):
    """What becomes of the row of a definition: how it is reported, and its change."""

    kind: str
    definition: TaskDefinition
    change: TaskChange | None = None


def added_row(
    definition: TaskDefinition,
    partition: str,
    was: TaskRow | None,
    found: TaskSnapshot,
    *,
    task_json: str | None = None,
) -> TaskChange:
    """Return the change that adds the row of a new task, with its start-up run.

    An archived row *was* comes back as that of a new task, but keeps its last decided fire time and
    its gaps, so that no fire time runs twice.
    """
    before = None if was is None else was.cursor()
    row = row_of_definition(
        definition,
        partition,
        was,
        cursor=first_cursor(definition, found.now, partition=partition, before=before),
        paused=definition.name in found.paused,
        task_json=task_json,
    )
    runs: list[Run] = []
    if definition.run_at_start:
        startup, name = Trigger.STARTUP, definition.name
        run = pending_run(new_run_id(), name, partition=partition, trigger=startup, now=found.now)
        runs.append(run)
    return TaskChange(row, was, runs, returned=was is not None, follows_pause=True)


def changed_row(
    was: TaskRow,
    definition: TaskDefinition,
    *,
    space: str,
    now: Instant,
    task_json: str | None = None,
) -> TaskChange:
    """Return the change of a row to *definition*; the cursor moves only with the schedule.

    What was due of the old schedule is missed: its record is added with the change.
    """
    changed = change_cursor(
        definition, was.cursor(), before=was.schedule, paused=was.paused, now=now
    )
    row = row_of_definition(
        definition,
        was.partition,
        was,
        cursor=changed.cursor,
        paused=was.paused,
        task_json=task_json,
    )
    skip = was.skip if changed.missed is None else None
    row = msgspec.structs.replace(row, resumed_at=was.resumed_at, skip=skip)
    reschedules = not is_schedule(was.schedule, definition.schedule)
    if changed.missed is None:
        return TaskChange(row, was, reschedules=reschedules)
    missed = not_run_record(
        space, was.task, partition=was.partition, passed=changed.missed, outcome=Outcome.MISSED
    )
    return TaskChange(row, was, [missed], reschedules=reschedules)


def keep_definitions(
    session: Session, manifest: str, declared: Mapping[str, TaskDefinition]
) -> None:
    """Keep the settings of declared tasks, so that any process can show them.

    They are written once for each manifest, which marks that by a definition without settings.
    """
    if session.has_definitions(manifest):
        return
    settings = {one.digest: shown_settings(one) for one in declared.values()}
    known = session.read_definitions([*settings])
    missing = {digest: text for digest, text in settings.items() if digest not in known}
    session.add_definitions({**missing, manifest: {}})


def sync_rows(
    session: Session, caller: Caller, active: ActiveDefinitions, written: Written
) -> SyncResult:
    """Add and change rows until they hold the active definitions that this process declares.

    A run-time task makes way for a declared task of its name. What is missed is added to *written*
    as soon as it is written.
    """
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    rows: dict[str, TaskRow] = {}
    changed: set[str] = set()
    overridden: set[str] = set()
    paused: set[str] = set()
    left: Sequence[TaskDefinition] = list(caller.definitions.values())
    for _ in range(MAX_ROUNDS):
        keys = sorted({key for definition in left for key in _keys_of(caller, definition)})
        found = session.read_tasks(keys)
        overridden |= {row.task for row in found.rows.values() if _is_runtime(row)}
        paused |= found.paused | {row.task for row in found.rows.values() if _is_paused(row)}
        steps = [*_steps(caller, left, active=active, found=found)]
        done, left = _write(session, steps, written)
        rows |= {key: row for key, row in found.rows.items() if row.archived_at is None}
        for step in done:
            kinds[step.kind].add(step.definition.name)
            if step.change is not None:
                rows[step.change.row.task_key] = step.change.row
                changed.add(step.change.row.task_key)
        if not left:
            record_versions(session, rows.values(), now=found.now, changed=changed)
            return SyncResult(
                added=_in_order(caller, kinds["added"]),
                changed=_in_order(caller, kinds["changed"]),
                superseded=_in_order(caller, kinds["superseded"]),
                overridden=_in_order(caller, overridden),
                missed=list(written.missed),
                paused=_paused_of(caller, paused),
            )
    raise too_busy(session.name)


def add_task(
    session: Session,
    caller: Caller,
    runtime_task: RuntimeTask,
    *,
    replace: bool,
    written: Written,
) -> Instant:
    """Add a run-time task, or replace one; return the store's clock.

    The records of the fire times that are missed are added to *written* once they are written.
    """
    definition, task_json = runtime_task.definition, runtime_task.task_json
    name = definition.name
    for _ in range(MAX_ROUNDS):
        found = session.read_tasks_named(name)
        sources = {row.source for row in found.rows.values() if row.archived_at is None}
        check_addition(name, min(sources, default=None), replace=replace)
        row = found.rows.get(task_key(name, ""))
        if row is None or row.archived_at is not None:
            change = added_row(definition, "", row, found, task_json=task_json)
            applied = apply_tasks(session, [change])
        else:
            change = changed_row(
                row, definition, space=caller.space, now=found.now, task_json=task_json
            )
            applied = apply_with_pending(session, [change], written)
        if all(applied.tasks):
            key = change.row.task_key
            record_versions(session, [change.row], now=found.now, changed=[key])
            return found.now
    raise too_busy(session.name)


def is_hidden_by_config(caller: Caller, row: TaskRow) -> bool:
    """Return whether a run-time row has the name of a task declared for another partition."""
    declared = row.task in caller.definitions
    return (
        _is_runtime(row)
        and declared
        and own_definition(row, caller.member, caller.definitions) is None
    )


def _keys_of(caller: Caller, definition: TaskDefinition) -> set[str]:
    """Return the key of its row, and of the run-time row that may have its name."""
    partition = partition_of(definition.scope, caller.member)
    return {task_key(definition.name, partition), task_key(definition.name, "")}


def _is_runtime(row: TaskRow) -> bool:
    return row.source == RUNTIME and row.archived_at is None


def _is_paused(row: TaskRow) -> bool:
    return row.paused and row.archived_at is None


def _paused_of(caller: Caller, paused: set[str]) -> tuple[str, ...]:
    """Return the declared tasks that are paused, after `EVERY_TASK` if all are."""
    every = (EVERY_TASK,) if EVERY_TASK in paused and caller.definitions else ()
    return (*every, *_in_order(caller, paused))


def _in_order(caller: Caller, names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in caller.definitions if name in names)


def _steps(
    caller: Caller,
    left: Iterable[TaskDefinition],
    *,
    active: ActiveDefinitions,
    found: TaskSnapshot,
) -> Iterator[_Step]:
    for definition in left:
        partition = partition_of(definition.scope, caller.member)
        row = found.rows.get(task_key(definition.name, partition))
        if row is None or row.archived_at is not None:
            yield _Step("added", definition, added_row(definition, partition, row, found))
        elif row.digest != definition.digest or row.source == RUNTIME:
            yield _step_of_row(row, caller, definition, active=active, now=found.now)
        if definition.scope is not Scope.FLEET:
            other = found.rows.get(task_key(definition.name, ""))
            if other is not None and is_hidden_by_config(caller, other):
                archived = other.changed(archived_at=found.now)
                yield _Step("archived", definition, TaskChange(archived, other))


def _step_of_row(
    row: TaskRow,
    caller: Caller,
    definition: TaskDefinition,
    *,
    active: ActiveDefinitions,
    now: Instant,
) -> _Step:
    if not is_current(active, row, definition):
        return _Step("superseded", definition)
    change = changed_row(row, definition, space=caller.space, now=now)
    return _Step("changed", definition, change)


def _write(
    session: Session, steps: Sequence[_Step], written: Written
) -> tuple[list[_Step], list[TaskDefinition]]:
    """Write the steps; return those that are done, and the definitions that were refused.

    Rows that exist are changed first: what they miss is older than a new start-up run.
    """
    existing = [step for step in steps if step.change is not None and step.change.was is not None]
    existing.sort(key=lambda step: step.kind != "changed")  # their missed records are older
    new = [step for step in steps if step.change is not None and step.change.was is None]
    done = [step for step in steps if step.change is None]
    refused: dict[str, TaskDefinition] = {}
    for batch, write in (
        (existing, partial(apply_with_pending, written=written)),
        (new, apply_tasks),
    ):
        if not batch:
            continue
        applied = write(session, [step.change for step in batch if step.change is not None])
        for step, was_applied in zip(batch, applied.tasks, strict=True):
            if was_applied:
                done.append(step)
            else:
                refused[step.definition.name] = step.definition
    return done, list(refused.values())
