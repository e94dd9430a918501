"""Claiming: one write that compares versions opens what the reading has decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.core.planner import NotRun, due_at, plan
from pulse.core.run import Claim, Outcome, Run, run_id
from pulse.core.run_transitions import claim_run, not_run_record, waiting_run
from pulse.store.redis.changes import ChangeSet, apply, opened, row_change, run_change
from pulse.store.redis.codec import RedisTaskRow, Skip
from pulse.store.redis.due import earliest, instant_or_none

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.clock import Instant, Span
    from pulse.store.redis.changes import Applied, RowChange
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.due import PlannedRow, RedisCaller, RedisClaimPlan


class RedisWrittenClaims(NamedTuple):
    """What the write won: see `pulse.store.base.Claimed`."""

    runs: Sequence[Run]
    not_run: Sequence[Run]
    expired_retries: Sequence[Run]
    next_wakeup: Instant | None


def release(server: RedisClient, reading: RedisClaimPlan, *, peeked: bool) -> None:
    """Give back what was reserved for nothing; a look that only peeked reserved nothing."""
    if reading.unused and not peeked:
        apply(server, ChangeSet(lease=0, released=reading.unused))


def write_claims(
    server: RedisClient, caller: RedisCaller, reading: RedisClaimPlan
) -> RedisWrittenClaims:
    """Open what nobody else has taken since the reading."""
    now, pending, planned_tasks = reading.now, reading.pending, reading.tasks
    outcomes = [_outcome(caller, planned, now) for planned in planned_tasks]
    taken = [claim_run(run, caller.member.holder, now) for run in pending.selected]
    runs = [run for outcome in outcomes for run in outcome.fresh]
    written = apply(
        server,
        ChangeSet(
            lease=caller.member.lease_us,
            keep=caller.keep_runs,
            closed=[run_change(*pair) for pair in pending.closed],
            rows=[outcome.change for outcome in outcomes],
            runs=[
                run_change(was, run, room=pending.known[run.task].max_concurrent)
                for was, run in zip(pending.selected, taken, strict=True)
            ],
            released=reading.unused,
            trimmed=_to_trim(runs, caller.keep_runs),
        ),
    )
    return _won(reading, outcomes, taken, written)


class _Outcome(NamedTuple):
    """What an intent comes to: the change, the run that is then held, what does not run."""

    change: RowChange
    held: Run | None
    not_run: Sequence[Run]
    fresh: Sequence[Run]
    next_work: Instant | None


def _won(
    reading: RedisClaimPlan, outcomes: Sequence[_Outcome], taken: Sequence[Run], written: Applied
) -> RedisWrittenClaims:
    existing = frozenset(written.existing)
    kept = [one for one, done in zip(outcomes, written.rows, strict=True) if done]
    held = [one.held for one in kept if one.held is not None and one.held.id not in existing]
    closed = among([run for _, run in reading.pending.closed], written.closed)
    missed = [run for run in closed if run.outcome is Outcome.MISSED]
    next_wakeup = reading.next_wakeup
    for instant in (*(one.next_work for one in kept), *map(instant_or_none, written.due)):
        next_wakeup = earliest(next_wakeup, instant)
    return RedisWrittenClaims(
        [*among(taken, written.runs), *held],
        [*missed, *(run for one in kept for run in one.not_run)],
        [run for run in closed if run.outcome is not Outcome.MISSED],
        next_wakeup,
    )


def among(runs: Sequence[Run], done: Sequence[bool]) -> list[Run]:
    """Return the runs whose change was done."""
    return [run for run, was_done in zip(runs, done, strict=True) if was_done]


def _outcome(caller: RedisCaller, planned: PlannedRow, now: Instant) -> _Outcome:
    skip, passed, folds = _passed_of(caller, planned)
    run = _opened_run(caller, planned, now)
    if run is not None:
        skip = None
    fresh = passed[:-1] if folds else list(passed)
    fresh += [] if run is None else [run]
    cursor = planned.plan.cursor
    moved = planned.row.changed(
        next_fire=cursor.next_fire,
        due_at=due_at(cursor),
        last_decided=cursor.last_decided,
        resumed_at=None,
        skip=skip,
    )
    openings = [opened(one) for one in fresh]
    if folds:
        openings.append(opened(passed[-1], folds=True))
    change = row_change(moved, was=planned.row, runs=openings)
    held = run if run is not None and run.holder else None
    return _Outcome(change, held, passed, fresh, _next_work(planned, now))


def _passed_of(caller: RedisCaller, planned: PlannedRow) -> tuple[Skip | None, list[Run], bool]:
    """Return the skip that a next one may fold into, what does not run, and whether it folds."""
    row, decided = planned.row, planned.plan
    skip, passed = row.skip, list[Run]()
    if decided.missed is not None:
        skip = None
        passed.append(_passed_run(caller, row, decided.missed, Outcome.MISSED))
    if decided.skipped is None:
        return skip, passed, False
    folds, skipped = skip is not None, decided.skipped
    if skip is not None:
        skipped = NotRun(skip.oldest, skip.count + skipped.count, skip.reason)
    passed.append(_passed_run(caller, row, skipped, Outcome.SKIPPED))
    return Skip(skipped.oldest, skipped.count, skipped.reason), passed, folds


def _passed_run(caller: RedisCaller, row: RedisTaskRow, passed: NotRun, outcome: Outcome) -> Run:
    return not_run_record(
        caller.space, row.task, partition=row.partition, passed=passed, outcome=outcome
    )


def _opened_run(caller: RedisCaller, planned: PlannedRow, now: Instant) -> Run | None:
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
        return now  # what it waits for is itself not due: it may be taken at the next look
    moved = planned.plan.cursor
    due = due_at(moved)
    if due is None or due > now:
        return due
    unfinished = planned.unfinished + (planned.plan.opened is not None)
    try:
        waits = plan(planned.definition, moved, unfinished, now) is None
    # The next look tells of it: what this one has won stands.
    except Exception:  # noqa: BLE001 - the reason is above
        waits = False
    return None if waits else due


def _to_trim(runs: Iterable[Run], keep: int) -> list[str]:
    """Return the tasks whose history is trimmed now.

    The ids of runs, which are random, decide: each task is trimmed once in so many runs, whichever
    processes open them, and nothing has to be counted.
    """
    every = max(1, min(64, keep // 16))
    return sorted({run.task for run in runs if int(run.id[:4], 16) % every == 0})


def claims_of(reading: RedisClaimPlan, runs: Iterable[Run], good_until: Span) -> list[Claim]:
    """Return the claims on *runs*, in order of fire time."""
    known = {one.definition.name: one.definition for one in reading.tasks}
    known.update(reading.pending.known)
    claims = [Claim(run, known[run.task], good_until) for run in runs]
    claims.sort(key=lambda claim: claim.run.fire_time)
    return claims
