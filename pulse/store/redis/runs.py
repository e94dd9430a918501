"""Finishes, retries and renews claimed runs; reads the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.core.run import CLAIM_LOST, RECORDED, RecordResult
from pulse.core.run_transitions import finish_run, schedule_retry
from pulse.store.redis.changes import apply_runs, renewal, run_change
from pulse.store.redis.codec import run_of, task_key
from pulse.store.redis.tasks import TRIES, read_keys
from pulse.store.rules import NextTick, may_run_again, next_attempt_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.clock import Span
    from pulse.core.run import Claim, CompletedRun, Run
    from pulse.store.redis.changes import RunChange
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.tasks import TaskSnapshot


class _Change(NamedTuple):
    """The change that records a result, and the value that `finish` returns for it."""

    change: RunChange
    recorded: RecordResult


def finish_runs(server: RedisClient, completed: Sequence[CompletedRun]) -> list[RecordResult]:
    """Record the results of runs whose claims are still valid: finish or retry the runs."""
    finished = [CLAIM_LOST] * len(completed)
    left = list(range(len(completed)))
    for _ in range(TRIES):
        changes = _decide(server, [completed[number] for number in left])
        done = apply_runs(server, [one.change for one in changes])
        again: list[int] = []
        for number, one, taken in zip(left, changes, done, strict=True):
            if taken:
                finished[number] = one.recorded
            elif one.change.row is not None:
                again.append(number)  # the row may have changed, and with it the next fire time
        left = _still_claimed(server, completed, again) if again else []
        if not left:
            break
    return finished


def _decide(server: RedisClient, completed: Sequence[CompletedRun]) -> list[_Change]:
    row_keys = {
        task_key(claim.run.task, claim.run.partition)
        for claim, result in completed
        if may_run_again(claim, result)
    }
    found = read_keys(server, sorted(row_keys)) if row_keys else None
    return [_change(completed_run, found) for completed_run in completed]


def _change(completed_run: CompletedRun, found: TaskSnapshot | None) -> _Change:
    claim, result = completed_run
    run = claim.run
    if found is None or not may_run_again(claim, result):
        return _Change(run_change(run, finish_run(run, result)), RECORDED)
    row_key = task_key(run.task, run.partition)
    row = found.rows.get(row_key)
    in_use = row is not None and row.archived_at is None
    tick = (
        NextTick(row.next_fire, found.unfinished[row_key]) if row is not None and in_use else None
    )
    at = next_attempt_at(claim, result, row=tick, now=found.now)
    guard = None if row is None else row.beginning
    if at is None:
        return _Change(run_change(run, finish_run(run, result), row=guard), RECORDED)
    change = run_change(run, schedule_retry(run, result, at), row=guard)
    return _Change(change, RecordResult(recorded=True, retry_at=at))


def _still_claimed(
    server: RedisClient, completed: Sequence[CompletedRun], numbers: Sequence[int]
) -> list[int]:
    records = server.command(
        "HMGET", server.key("runs"), *(completed[number].claim.run.id for number in numbers)
    )
    return [
        number
        for number, record in zip(numbers, records, strict=True)
        if record is not None and _is_claimed(run_of(record), completed[number].claim.run)
    ]


def _is_claimed(stored: Run, run: Run) -> bool:
    same = (stored.holder, stored.attempt) == (run.holder, run.attempt)
    return same and stored.outcome is None


def renew_runs(server: RedisClient, claims: Sequence[Claim], lease_us: Span) -> list[bool]:
    """Extend leases; return False for each claim that was lost."""
    return apply_runs(server, [renewal(claim.run) for claim in claims], lease_us=lease_us)


def newest_runs(server: RedisClient, *, task: str | None, limit: int) -> list[Run]:
    """Return the newest runs, newest first."""
    key = server.key("history" if task is None else f"history:{task}")
    ids = server.command("ZREVRANGE", key, 0, limit - 1) if limit > 0 else []
    if not ids:
        return []
    records = server.command("HMGET", server.key("runs"), *ids)
    return [run_of(record) for record in records if record is not None]
