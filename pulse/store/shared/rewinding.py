"""Moves rows back after the store's clock was ahead and has been set back.

What was written while the clock was ahead lies in the future: next fire times, the end of a pause,
the instants from which pending runs may be claimed. `pulse.core.planner.rewind` decides about a
cursor. Every process checks the rows that it may run; the first one to write moves a row.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pulse.core.cursor import due_at, rewind
from pulse.store.base import RewoundTask
from pulse.store.rules import CONFIG, ClockCheck, advance_early
from pulse.store.shared.backend import Written
from pulse.store.shared.changes import ChangeSet, RunChange, TaskChange
from pulse.store.shared.orphans import apply_with_pending
from pulse.store.shared.tasks import change_rows, record_changes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.clock import Instant
    from pulse.store.shared.backend import Session
    from pulse.store.shared.rows import Caller, TaskRow


class EarlyWork(NamedTuple):
    """What lies in the future because it was written while the clock was ahead.

    Attributes:
        now: the store's clock after what was read.
        rewound: the tasks whose next run is another one than their schedule says.
        rows: keys of the rows to move back.
        pending: changes of the pending runs that are to become due.

    """

    now: Instant
    rewound: Sequence[RewoundTask]
    rows: Sequence[str]
    pending: Sequence[RunChange]


def find_early_work(
    session: Session, caller: Caller, *, now: Instant, check: ClockCheck
) -> EarlyWork:
    """Return what a clock ahead of *now* has put into the future, without a write."""
    every_row = check is ClockCheck.ALL
    found = session.read_early(caller, now, every_row=every_row)
    now = session.now()  # other processes may have decided ticks since the caller read the clock
    rewound: list[RewoundTask] = []
    rows: list[str] = []
    for row in found.rows:
        is_wanted = every_row or row.source == CONFIG or _is_likely(row, now)
        moved = _rewound(row, caller, now) if is_wanted else None
        if moved is None:
            continue
        if moved.change is not None:
            rows.append(row.task_key)
        if moved.report is not None:
            rewound.append(moved.report)
    rewound.sort(key=lambda one: (one.task, one.partition))
    pending = [
        RunChange(was, run)
        for was in found.pending
        if was.partition in caller.partitions and (run := advance_early(was, now)) is not was
    ]
    return EarlyWork(now, rewound, sorted(rows), pending)


def rewind_rows(session: Session, caller: Caller, work: EarlyWork) -> None:
    """Write what `find_early_work` has found, where no other process has written it meanwhile."""

    def change(row: TaskRow, _: Instant) -> TaskChange | None:
        moved = _rewound(row, caller, work.now)
        return None if moved is None else moved.change

    if work.rows:
        write = partial(apply_with_pending, written=Written())
        made = change_rows(session, lambda: session.read_tasks(work.rows), change, write=write)
        record_changes(session, made, now=work.now)
    if work.pending:
        session.apply(ChangeSet(runs=work.pending))


class _RewoundRow(NamedTuple):
    change: TaskChange | None
    report: RewoundTask | None


def _rewound(row: TaskRow, caller: Caller, now: Instant) -> _RewoundRow | None:
    """Return the change of a row that this process may run, and what is to be reported."""
    is_own = row.partition in caller.partitions and caller.may_run(row)
    if row.archived_at is not None or not is_own:
        return None
    try:
        moved, refused = rewind(caller.define(row), row.cursor(), now)
    # The next claim reports a schedule that raises, or one of a newer release.
    except Exception:  # noqa: BLE001 - the reason is above
        return None
    is_moved = (moved.anchor, moved.next_fire) != (row.anchor, row.next_fire)
    report = RewoundTask(row.task, row.partition, refused, moved.next_fire)
    resumed_early = row.resumed_at is not None and row.resumed_at > now
    changed = row.changed(
        anchor=moved.anchor,
        next_fire=moved.next_fire,
        due_at=due_at(moved),
        resumed_at=now if resumed_early else row.resumed_at,
    )
    return _RewoundRow(
        TaskChange(changed, row) if is_moved or resumed_early else None,
        report if is_moved or refused is not None else None,
    )


def _is_likely(row: TaskRow, now: Instant) -> bool:
    """Return whether the row of a run-time task may have been written while the clock was ahead.

    There may be many run-time tasks: only these rows are planned.
    """
    return max(row.anchor, row.last_decided, row.resumed_at or now) > now
