"""Writes a claim plan: one change set that compares versions creates and claims the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.core.planner import NotRun, due_at, plan
from pulse.core.run import Claim, Outcome, Run, run_id
from pulse.core.run_transitions import claim_run, not_run_record, waiting_run
from pulse.store.redis.changes import ChangeSet, apply, create_run, row_change, run_change
from pulse.store.redis.codec import RedisTaskRow, Skip
from pulse.store.redis.due import earliest, instant_or_none

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.clock import Instant, Span
    from pulse.store.redis.changes import Applied, RowChange
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.due import PlannedRow, RedisCaller, RedisClaimPlan


class RedisWrittenClaims(NamedTuple):
    """What was written; the fields are those of `pulse.store.base.Claimed`."""

    runs: Sequence[Run]
    not_run: Sequence[Run]
    expired_retries: Sequence[Run]
    next_wakeup: Instant | None


def release(server: RedisClient, claim_plan: RedisClaimPlan, *, peeked: bool) -> None:
    """Release the unused reservations; a read with *peeked* reserved nothing."""
    if claim_plan.unused and not peeked:
        apply(server, ChangeSet(lease=0, released=claim_plan.unused))


def write_claims(
    server: RedisClient, caller: RedisCaller, claim_plan: RedisClaimPlan
) -> RedisWrittenClaims:
    """Write the plan; what other processes changed since the read is left out of the result."""
    now, pending, planned_tasks = claim_plan.now, claim_plan.pending, claim_plan.tasks
    changes = [_planned_change(caller, planned, now) for planned in planned_tasks]
    taken = [claim_run(run, caller.member.holder, now) for run in pending.selected]
    runs = [run for change in changes for run in change.fresh]
    applied = apply(
        server,
        ChangeSet(
            lease=caller.member.lease_us,
            keep=caller.keep_runs,
            closed=[run_change(*pair) for pair in pending.closed],
            rows=[change.change for change in changes],
            runs=[
                run_change(was, run, max_claimed=pending.known[run.task].max_concurrent)
                for was, run in zip(pending.selected, taken, strict=True)
            ],
            released=claim_plan.unused,
            trimmed=_to_trim(runs, caller.keep_runs),
        ),
    )
    return _result(claim_plan, changes, taken, applied)


class _PlannedChange(NamedTuple):
    """The change of a row that carries out its plan.

    Attributes:
        change: the change.
        claimed: the run that it creates and claims.
        not_run: the records of missed and skipped fire times.
        fresh: all runs that it creates.
        next_work: when the row has work again; None while it waits for one of its runs.

    """

    change: RowChange
    claimed: Run | None
    not_run: Sequence[Run]
    fresh: Sequence[Run]
    next_work: Instant | None


def _result(
    claim_plan: RedisClaimPlan,
    changes: Sequence[_PlannedChange],
    taken: Sequence[Run],
    applied: Applied,
) -> RedisWrittenClaims:
    existing = frozenset(applied.existing)
    kept = [one for one, done in zip(changes, applied.rows, strict=True) if done]
    created = [
        one.claimed for one in kept if one.claimed is not None and one.claimed.id not in existing
    ]
    closed = among([run for _, run in claim_plan.pending.closed], applied.closed)
    missed = [run for run in closed if run.outcome is Outcome.MISSED]
    next_wakeup = claim_plan.next_wakeup
    for instant in (*(one.next_work for one in kept), *map(instant_or_none, applied.due)):
        next_wakeup = earliest(next_wakeup, instant)
    return RedisWrittenClaims(
        [*among(taken, applied.runs), *created],
        [*missed, *(run for one in kept for run in one.not_run)],
        [run for run in closed if run.outcome is not Outcome.MISSED],
        next_wakeup,
    )


def among(runs: Sequence[Run], done: Sequence[bool]) -> list[Run]:
    """Return the runs whose change was made."""
    return [run for run, was_done in zip(runs, done, strict=True) if was_done]


def _planned_change(caller: RedisCaller, planned: PlannedRow, now: Instant) -> _PlannedChange:
    skip, not_run, folds = _not_run_of(caller, planned)
    run = _new_run(caller, planned, now)
    if run is not None:
        skip = None
    fresh = not_run[:-1] if folds else list(not_run)
    fresh += [] if run is None else [run]
    cursor = planned.plan.cursor
    moved = planned.row.changed(
        next_fire=cursor.next_fire,
        due_at=due_at(cursor),
        last_decided=cursor.last_decided,
        resumed_at=None,
        skip=skip,
    )
    creations = [create_run(one) for one in fresh]
    if folds:
        creations.append(create_run(not_run[-1], folds=True))
    change = row_change(moved, was=planned.row, runs=creations)
    claimed = run if run is not None and run.holder else None
    return _PlannedChange(change, claimed, not_run, fresh, _next_work(planned, now))


def _not_run_of(caller: RedisCaller, planned: PlannedRow) -> tuple[Skip | None, list[Run], bool]:
    """Return the skip of the row, the not-run records, and whether the last one folds."""
    row, decided = planned.row, planned.plan
    skip, not_run = row.skip, list[Run]()
    if decided.missed is not None:
        skip = None
        not_run.append(_not_run_record(caller, row, decided.missed, Outcome.MISSED))
    if decided.skipped is None:
        return skip, not_run, False
    folds, skipped = skip is not None, decided.skipped
    if skip is not None:
        skipped = NotRun(skip.oldest, skip.count + skipped.count, skip.reason)
    not_run.append(_not_run_record(caller, row, skipped, Outcome.SKIPPED))
    return Skip(skipped.oldest, skipped.count, skipped.reason), not_run, folds


def _not_run_record(
    caller: RedisCaller, row: RedisTaskRow, not_run: NotRun, outcome: Outcome
) -> Run:
    return not_run_record(
        caller.space, row.task, partition=row.partition, passed=not_run, outcome=outcome
    )


def _new_run(caller: RedisCaller, planned: PlannedRow, now: Instant) -> Run | None:
    opening, row = planned.plan.opened, planned.row
    if opening is None:
        return None
    if opening.waits:
        return waiting_run(caller.space, row.task, partition=row.partition, opened=opening, now=now)
    return Run(
        id=run_id(caller.space, row.task, row.partition, opening.scheduled_for),
        task=row.task,
        partition=row.partition,
        fire_time=opening.scheduled_for,
        scheduled_for=opening.scheduled_for,
        trigger=opening.trigger,
        holder=caller.member.holder,
        claimed_at=now,
    )


def _next_work(planned: PlannedRow, now: Instant) -> Instant | None:
    """Return when the row has work again; None while it waits for one of its runs to end."""
    opening = planned.plan.opened
    if (
        opening is not None
        and opening.waits
        and planned.claimed < planned.definition.max_concurrent
    ):
        return now  # the run that it waits for is pending, not claimed: the next poll may claim it
    moved = planned.plan.cursor
    due = due_at(moved)
    if due is None or due > now:
        return due
    unfinished = planned.unfinished + (planned.plan.opened is not None)
    try:
        waits = plan(planned.definition, moved, unfinished, now) is None
    # The next poll reports the error; the claims of this call remain valid.
    except Exception:  # noqa: BLE001 - the reason is above
        waits = False
    return None if waits else due


def _to_trim(runs: Iterable[Run], keep: int) -> list[str]:
    """Return the tasks whose history is trimmed now.

    The ids of the runs are hashes and decide: on average each task is trimmed once in *every* runs,
    whichever processes create them, without a counter.
    """
    every = max(1, min(64, keep // 16))
    return sorted({run.task for run in runs if int(run.id[:4], 16) % every == 0})


def claims_of(claim_plan: RedisClaimPlan, runs: Iterable[Run], good_until: Span) -> list[Claim]:
    """Return the claims on *runs*, in order of fire time."""
    known = {one.definition.name: one.definition for one in claim_plan.tasks}
    known.update(claim_plan.pending.known)
    claims = [Claim(run, known[run.task], good_until) for run in runs]
    claims.sort(key=lambda claim: claim.run.fire_time)
    return claims
