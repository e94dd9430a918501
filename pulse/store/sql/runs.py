"""The rows of runs: add, read, finish, renew and trim them."""

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
# Written so that no query planner uses the index of unfinished runs: until a vacuum it is full of
# entries of finished runs, which the statistics do not count. The index of ids is always faster.
_UNFINISHED = "coalesce(outcome, '') = ''"
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
    only=_UNFINISHED,
)
_KEYS = "SELECT key, task, place FROM @tasks WHERE task IN (?*) AND archived_at IS NULL"
_LOCK = "SELECT key FROM @tasks WHERE key IN (?*) ORDER BY key FOR UPDATE"
_NEXT_TICKS = (
    "SELECT task, place, next_fire, (SELECT count(*) FROM @runs r"
    "  WHERE r.task = t.task AND r.place = t.place AND r.outcome IS NULL)"
    " FROM @tasks t WHERE key IN (?*) AND archived_at IS NULL"
)
_RENEW = Update("@runs", sets=("mark",), keys=_HELD_BY, only=_UNFINISHED)
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
    """Add runs.

    Raises:
        DuplicateKeyError: a run of that id exists; raised by `Database.attempts`.

    """
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
    """Return the earlier attempts of a run as JSON; None if there are none."""
    return msgspec.json.encode(run.attempts) if run.attempts else None


def run_of(cells: Sequence[Any]) -> Run:
    """Return the run of a row that starts with `COLUMNS`."""
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
    """Return whether no run may get another attempt: then no row has to be read before."""
    return not any(may_run_again(*completed_run) for completed_run in completed)


def end_runs(connection: Connection, completed: Sequence[CompletedRun]) -> list[RecordResult]:
    """Finish the runs whose claims are still valid, in one statement."""
    return _record(connection, completed, [None] * len(completed))


def finish_runs(connection: Connection, completed: Sequence[CompletedRun]) -> list[RecordResult]:
    """Finish the runs whose claims are still valid, or schedule their next attempts."""
    ticks = _next_ticks(connection, completed)
    now = connection.now()
    return _record(
        connection,
        completed,
        [_next_attempt(completed_run, ticks, now) for completed_run in completed],
    )


def _record(
    connection: Connection, completed: Sequence[CompletedRun], again: Sequence[Instant | None]
) -> list[RecordResult]:
    cells = [_finish_cells(one, at) for one, at in zip(completed, again, strict=True)]
    changed = connection.update_returning(_FINISH, cells)
    return [_result_of(one, at) for one, at in zip(changed, again, strict=True)]


def _result_of(changed: bool, at: Instant | None) -> RecordResult:  # noqa: FBT001 - from the row
    if not changed:
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
    """Lock the rows of tasks until the transaction ends; return the keys of rows that exist.

    Every call that waits for several rows locks them in the order of their keys: no deadlock.
    """
    return [key for (key,) in connection.select_in(_LOCK, sorted(keys))]


def _next_attempt(
    completed_run: CompletedRun, ticks: Mapping[tuple[str, str], NextTick], now: Instant
) -> Instant | None:
    claim, result = completed_run
    if not may_run_again(claim, result):
        return None
    return next_attempt_at(
        claim, result, row=ticks.get((claim.run.task, claim.run.partition)), now=now
    )


def _finish_cells(completed_run: CompletedRun, at: Instant | None) -> tuple[Cell, ...]:
    run, result = completed_run.claim.run, completed_run.result
    attempt = (result.started_at, result.took_us, result.status, result.message)
    sets: tuple[Cell, ...]
    if at is None:
        outcome = result.outcome.value
        sets = (outcome, *attempt, run.holder, run.claimed_at, None, attempts_cell(run))
    else:
        sets = (None, *attempt, "", None, at, attempts_cell(schedule_retry(run, result, at)))
    return (*sets, run.id, run.holder, run.attempt)


def renew_runs(connection: Connection, claims: Sequence[Claim], mark: Span) -> list[bool]:
    """Set the renewal marks of runs; return False for each whose claim was lost."""
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
    """Return the runs of these ids, by id, except those that were trimmed."""
    return {
        cells[0]: run_of(cells)
        for cells in connection.select_in(_NEWEST + " WHERE id IN (?*)", ids)
    }


def trim_history(connection: Connection, runs: Iterable[Run], *, keep: int) -> None:
    """Delete the oldest runs of some of the tasks, so that each task keeps about *keep*.

    The ids of the runs, which are random, decide which tasks are trimmed: each task once in a
    number of runs, whichever processes add them, and no count has to be kept.
    """
    every = max(1, min(64, keep // 16))
    for task in {run.task for run in runs if int(run.id[:4], 16) % every == 0}:
        connection.execute(_TRIM, (task, task, keep))


def trim_old(connection: Connection, before: Instant) -> None:
    """Delete finished runs that were added before that instant, at most 500 in one call."""
    connection.execute(_TRIM_OLD, (before,))
