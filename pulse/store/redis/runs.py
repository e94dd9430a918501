"""Runs in progress and past ones: ended, tried again, renewed, shown."""

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
    """What an ending comes to, and what is told of it."""

    change: RunChange
    became: RecordResult


def finish_runs(server: RedisClient, completed: Sequence[CompletedRun]) -> list[RecordResult]:
    """End the runs that are still held by their claims, or let them be tried again."""
    finished = [CLAIM_LOST] * len(completed)
    left = list(range(len(completed)))
    for _ in range(TRIES):
        changes = _decide(server, [completed[number] for number in left])
        done = apply_runs(server, [one.change for one in changes])
        again: list[int] = []
        for number, one, taken in zip(left, changes, done, strict=True):
            if taken:
                finished[number] = one.became
            elif one.change.row is not None:
                again.append(number)  # its row may have moved: the next tick is another one
        left = _still_held(server, completed, again) if again else []
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
    stands = row is not None and row.archived_at is None
    tick = (
        NextTick(row.next_fire, found.unfinished[row_key]) if row is not None and stands else None
    )
    at = next_attempt_at(claim, result, row=tick, now=found.now)
    guard = None if row is None else row.beginning
    if at is None:
        return _Change(run_change(run, finish_run(run, result), row=guard), RECORDED)
    change = run_change(run, schedule_retry(run, result, at), row=guard)
    return _Change(change, RecordResult(recorded=True, retry_at=at))


def _still_held(
    server: RedisClient, completed: Sequence[CompletedRun], numbers: Sequence[int]
) -> list[int]:
    records = server.command(
        "HMGET", server.key("runs"), *(completed[number].claim.run.id for number in numbers)
    )
    return [
        number
        for number, record in zip(numbers, records, strict=True)
        if record is not None and _is_held(run_of(record), completed[number].claim.run)
    ]


def _is_held(kept: Run, run: Run) -> bool:
    same = (kept.holder, kept.attempt) == (run.holder, run.attempt)
    return same and kept.outcome is None


def renew_runs(server: RedisClient, claims: Sequence[Claim], lease_us: Span) -> list[bool]:
    """Move the ends of leases; False stands where the claim was lost."""
    return apply_runs(server, [renewal(claim.run) for claim in claims], lease_us=lease_us)


def newest_runs(server: RedisClient, *, task: str | None, limit: int) -> list[Run]:
    """Return the newest runs, newest first."""
    key = server.key("history" if task is None else f"history:{task}")
    ids = server.command("ZREVRANGE", key, 0, limit - 1) if limit > 0 else []
    if not ids:
        return []
    records = server.command("HMGET", server.key("runs"), *ids)
    return [run_of(record) for record in records if record is not None]
