"""Moves rows back after the store's clock was ahead and has been set back.

What was written while the clock was ahead lies in the future: next fire times, the end of a pause,
the instants from which pending runs may be claimed. `pulse.core.planner.rewind` decides about a
cursor. Every process checks the rows that it may run; the first one to write moves a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.core.planner import due_at, rewind
from pulse.store.base import RewoundTask
from pulse.store.rules import CONFIG, ClockCheck, advance_early
from pulse.store.shared.changes import ChangeSet, RunChange, TaskChange
from pulse.store.shared.orphans import apply_with_pending
from pulse.store.shared.rows import task_key
from pulse.store.shared.tasks import change_rows

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.store.base import TaskState
    from pulse.store.shared.backend import Session
    from pulse.store.shared.rows import Caller, TaskRow


def rewind_rows(
    session: Session, caller: Caller, *, now: Instant, check: ClockCheck
) -> list[RewoundTask]:
    """Move back what a clock ahead of *now* has put into the future; return the affected tasks."""
    states = [one for one in session.read_states() if one.partition in caller.partitions]
    keys = sorted(
        task_key(one.name, one.partition)
        for one in states
        if check is ClockCheck.ALL or one.source == CONFIG or _is_likely(one, now)
    )
    rewound: dict[str, RewoundTask] = {}

    def change(row: TaskRow, now: Instant) -> TaskChange | None:
        if row.archived_at is not None or not caller.may_run(row):
            return None
        try:
            moved, refused = rewind(caller.define(row), row.cursor(), now)
        # The next claim reports a schedule that raises, or one of a newer release.
        except Exception:  # noqa: BLE001 - the reason is above
            return None
        is_moved = (moved.anchor, moved.next_fire) != (row.anchor, row.next_fire)
        if is_moved or refused is not None:
            rewound[row.task_key] = RewoundTask(row.task, row.partition, refused, moved.next_fire)
        resumed_early = row.resumed_at is not None and row.resumed_at > now
        if not is_moved and not resumed_early:
            return None
        return TaskChange(
            row.changed(
                anchor=moved.anchor,
                next_fire=moved.next_fire,
                due_at=due_at(moved),
                resumed_at=now if resumed_early else row.resumed_at,
            ),
            row,
        )

    if keys:
        change_rows(session, lambda: session.read_tasks(keys), change, write=apply_with_pending)
    _advance_pending(session, states, now)
    return [rewound[key] for key in sorted(rewound)]


def _is_likely(state: TaskState, now: Instant) -> bool:
    """Return whether the row of a run-time task may have been written while the clock was ahead.

    There may be many run-time tasks: only these rows are read in full.
    """
    return state.anchor > now or (state.last_decided is not None and state.last_decided > now)


def _advance_pending(session: Session, states: list[TaskState], now: Instant) -> None:
    tasks: dict[str, list[str]] = {}
    for state in states:
        if state.unfinished:
            tasks.setdefault(state.partition, []).append(state.name)
    pending = session.read_pending(tasks) if tasks else ()
    changes = [
        RunChange(was, run) for was in pending if (run := advance_early(was, now)) is not was
    ]
    if changes:
        session.apply(ChangeSet(runs=changes))
