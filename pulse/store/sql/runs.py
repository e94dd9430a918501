"""Runs as rows of the table: writing them, reading them, ending them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pulse.core.run import CLAIM_LOST, RECORDED, Attempt, Outcome, RecordResult, Run, Trigger
from pulse.core.run_transitions import schedule_retry
from pulse.store.rules import NextTick, may_run_again, next_attempt_at
from pulse.store.sql.database import Insert, Update

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Claim, CompletedRun
    from pulse.store.sql.database import Cell, Connection

COLUMNS = (
    "id, task, place, fire_time, slot, trigger, attempt, holder, claimed_at, started_at, took_us,"
    " outcome, status, message, count, retry_at, body, tries"
)
_ADD = Insert("@runs", (*COLUMNS.split(", "), "opened_at", "lease_us", "mark"))
_NEWEST = (
    "SELECT id, task, place, fire_time, slot, trigger, attempt, holder, claimed_at, started_at,"
    " took_us, outcome, status, message, count, retry_at, body, tries FROM @runs"
)
_HELD_BY = ("id", "holder", "attempt")
_OPEN = "coalesce(outcome, '') = ''"
"""Said so that no planner takes the index of open runs for it: that is full of ended ones, which
look like none in the table's statistics, where the ids lead to each run at once."""
_FINISH = Update(
    "@runs",
    sets=(
        "outcome",
        "started_at",
        "took_us",
        "status",
        "message",
        "holder",
        "claimed_at",
        "retry_at",
        "tries",
    ),
    keys=_HELD_BY,
    only=_OPEN,
)
_KEYS = "SELECT key, task, place FROM @tasks WHERE task IN (?*) AND archived_at IS NULL"
_LOCK = "SELECT key FROM @tasks WHERE key IN (?*) ORDER BY key FOR UPDATE"
_NEXT_TICKS = (
    "SELECT task, place, next_fire, (SELECT count(*) FROM @runs r"
    "  WHERE r.task = t.task AND r.place = t.place AND r.outcome IS NULL)"
    " FROM @tasks t WHERE key IN (?*) AND archived_at IS NULL"
)
_RENEW = Update("@runs", sets=("mark",), keys=_HELD_BY, only=_OPEN)
_TRIM = (
    "DELETE FROM @runs WHERE seq IN (SELECT seq FROM @runs"
    " WHERE task = ? AND outcome IS NOT NULL AND seq <="
    "  (SELECT seq FROM @runs WHERE task = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)"
    " FOR UPDATE SKIP LOCKED)"
)
_TRIM_OLD = (
    "DELETE FROM @runs WHERE seq IN (SELECT seq FROM @runs"
    " WHERE seq IN (SELECT seq FROM @runs ORDER BY seq LIMIT 500)"
    " AND opened_at < ? AND outcome IS NOT NULL FOR UPDATE SKIP LOCKED)"
)
_TRIGGERS = {trigger.value: trigger for trigger in Trigger}
_OUTCOMES: dict[str | None, Outcome | None] = {outcome.value: outcome for outcome in Outcome}
_OUTCOMES[None] = None
_TRIES = msgspec.json.Decoder(tuple[Attempt, ...])


def insert_runs(
    connection: Connection, runs: Iterable[Run], *, now: Instant, lease_us: Span, mark: Span
) -> None:
    """Add rows; a run that is there already is an AlreadyThereError, never a second one."""
    connection.insert_many(_ADD, [(*_cells(run), now, lease_us, mark) for run in runs])


def _cells(run: Run) -> tuple[Cell, ...]:
    return (
        run.id,
        run.task,
        run.partition,
        run.fire_time,
        run.scheduled_for,
        run.trigger.value,
        run.attempt,
        run.holder,
        run.claimed_at,
        run.started_at,
        run.took_us,
        None if run.outcome is None else run.outcome.value,
        run.status,
        run.message,
        run.count,
        run.retry_at,
        run.body,
        attempts_cell(run),
    )


def attempts_cell(run: Run) -> bytes | None:
    """Return the attempts before the last as a row holds them."""
    return msgspec.json.encode(run.attempts) if run.attempts else None


def run_of(cells: Sequence[Any]) -> Run:
    """Return the run of a row whose columns begin with `COLUMNS`."""
    return Run(
        id=cells[0],
        task=cells[1],
        partition=cells[2],
        fire_time=cells[3],
        scheduled_for=cells[4],
        trigger=_TRIGGERS[cells[5]],
        attempt=cells[6],
        holder=cells[7],
        claimed_at=cells[8],
        started_at=cells[9],
        took_us=cells[10],
        outcome=_OUTCOMES[cells[11]],
        status=cells[12],
        message=cells[13],
        count=cells[14],
        retry_at=cells[15],
        body=cells[16],
        attempts=() if cells[17] is None else _TRIES.decode(cells[17]),
    )


def all_end(completed: Iterable[CompletedRun]) -> bool:
    """Return whether none of the runs may be tried again: then nothing has to be read first."""
    return not any(may_run_again(*completed_run) for completed_run in completed)


def end_runs(connection: Connection, completed: Sequence[CompletedRun]) -> list[RecordResult]:
    """End the runs that are still held by their claims, in one statement."""
    return _record(connection, completed, [None] * len(completed))


def finish_runs(connection: Connection, completed: Sequence[CompletedRun]) -> list[RecordResult]:
    """End the runs that are still held by their claims, or let them be tried again."""
    ticks = _next_ticks(connection, completed)
    now = connection.now()
    return _record(
        connection, completed, [_again_at(completed_run, ticks, now) for completed_run in completed]
    )


def _record(
    connection: Connection, completed: Sequence[CompletedRun], again: Sequence[Instant | None]
) -> list[RecordResult]:
    cells = [
        _end_cells(completed_run, at) for completed_run, at in zip(completed, again, strict=True)
    ]
    changed = connection.update_returning(_FINISH, cells)
    return [_finished(taken, at) for taken, at in zip(changed, again, strict=True)]


def _finished(taken: bool, at: Instant | None) -> RecordResult:  # noqa: FBT001 - what the row said
    if not taken:
        return CLAIM_LOST
    return RECORDED if at is None else RecordResult(recorded=True, retry_at=at)


def _next_ticks(
    connection: Connection, completed: Sequence[CompletedRun]
) -> dict[tuple[str, str], NextTick]:
    row_keys = {
        (one.claim.run.task, one.claim.run.partition) for one in completed if may_run_again(*one)
    }
    found = connection.select_in(_KEYS, sorted({task for task, _ in row_keys}))
    keys = lock_tasks(
        connection, [key for key, task, partition in found if (task, partition) in row_keys]
    )
    return {
        (task, partition): NextTick(next_fire, unfinished)
        for task, partition, next_fire, unfinished in connection.select_in(_NEXT_TICKS, keys)
    }


def lock_tasks(connection: Connection, keys: Iterable[int]) -> list[int]:
    """Keep others from claiming and changing these rows until the call ends; return their keys.

    All who wait for several rows lock them in one order, so that nobody waits for ever.
    """
    return [key for (key,) in connection.select_in(_LOCK, sorted(keys))]


def _again_at(
    completed_run: CompletedRun, ticks: Mapping[tuple[str, str], NextTick], now: Instant
) -> Instant | None:
    claim, result = completed_run
    if not may_run_again(claim, result):
        return None
    return next_attempt_at(
        claim, result, row=ticks.get((claim.run.task, claim.run.partition)), now=now
    )


def _end_cells(completed_run: CompletedRun, at: Instant | None) -> tuple[Cell, ...]:
    run, result = completed_run.claim.run, completed_run.result
    said = (result.started_at, result.took_us, result.status, result.message)
    told: tuple[Cell, ...]
    if at is None:
        told = (result.outcome.value, *said, run.holder, run.claimed_at, None, attempts_cell(run))
    else:
        told = (None, *said, "", None, at, attempts_cell(schedule_retry(run, result, at)))
    return (*told, run.id, run.holder, run.attempt)


def renew_runs(connection: Connection, claims: Sequence[Claim], mark: Span) -> list[bool]:
    """Move the marks of runs in progress; False stands where the claim was lost."""
    cells = [(mark, claim.run.id, claim.run.holder, claim.run.attempt) for claim in claims]
    return connection.update_returning(_RENEW, cells)


def newest_runs(connection: Connection, *, task: str | None, limit: int) -> list[Run]:
    """Return the newest runs, newest first."""
    if task is None:
        found = connection.execute(_NEWEST + " ORDER BY seq DESC LIMIT ?", (limit,))
    else:
        found = connection.execute(
            _NEWEST + " WHERE task = ? ORDER BY seq DESC LIMIT ?", (task, limit)
        )
    return [run_of(cells) for cells in found]


def read_runs(connection: Connection, ids: Iterable[str]) -> dict[str, Run]:
    """Return the runs of these ids that were not trimmed."""
    return {
        cells[0]: run_of(cells)
        for cells in connection.select_in(_NEWEST + " WHERE id IN (?*)", ids)
    }


def trim_history(connection: Connection, runs: Iterable[Run], *, keep: int) -> None:
    """Forget the oldest runs of some of the tasks, so that each keeps about *keep*.

    Which tasks are looked at is left to the runs' ids, which are random: each task is trimmed
    once in so many runs, whichever processes open them, and nothing has to be counted.
    """
    every = max(1, min(64, keep // 16))
    for task in {run.task for run in runs if int(run.id[:4], 16) % every == 0}:
        connection.execute(_TRIM, (task, task, keep))


def trim_old(connection: Connection, before: Instant) -> None:
    """Forget runs opened before that instant, a bounded number of them."""
    connection.execute(_TRIM_OLD, (before,))
