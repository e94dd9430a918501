"""Claiming: one write that compares versions opens what the reading has decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.core.planner import Passed, due_at, plan
from pulse.core.run import Claim, Outcome, Run, run_id
from pulse.core.run_transitions import passed_run, taken_run, waiting_run
from pulse.store.redis.changes import Writing, opened, row_change, run_change, write
from pulse.store.redis.codec import Row, Skip
from pulse.store.redis.due import earliest, instant_or_none

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.clock import Instant, Span
    from pulse.store.redis.changes import RowChange, Written
    from pulse.store.redis.client import Server
    from pulse.store.redis.due import Here, Intent, Reading


class Won(NamedTuple):
    """What the write won: see `pulse.store.base.Claimed`."""

    runs: Sequence[Run]
    passed: Sequence[Run]
    given_up: Sequence[Run]
    wake_at: Instant | None


def release(server: Server, reading: Reading, *, peeked: bool) -> None:
    """Give back what was reserved for nothing; a look that only peeked reserved nothing."""
    if reading.unused and not peeked:
        write(server, Writing(lease=0, released=reading.unused))


def write_claims(server: Server, here: Here, reading: Reading) -> Won:
    """Open what nobody else has taken since the reading."""
    now, unheld, intents = reading.now, reading.unheld, reading.intents
    outcomes = [_outcome(here, intent, now) for intent in intents]
    taken = [taken_run(run, here.member.holder, now) for run in unheld.taken]
    runs = [run for outcome in outcomes for run in outcome.fresh]
    written = write(
        server,
        Writing(
            lease=here.member.lease_us,
            keep=here.keep_runs,
            closed=[run_change(*pair) for pair in unheld.closed],
            rows=[outcome.change for outcome in outcomes],
            runs=[
                run_change(was, run, room=unheld.known[run.task].at_once)
                for was, run in zip(unheld.taken, taken, strict=True)
            ],
            released=reading.unused,
            trimmed=_to_trim(runs, here.keep_runs),
        ),
    )
    return _won(reading, outcomes, taken, written)


class _Outcome(NamedTuple):
    """What an intent comes to: the change, the run that is then held, what does not run."""

    change: RowChange
    held: Run | None
    passed: Sequence[Run]
    fresh: Sequence[Run]
    next_work: Instant | None


def _won(
    reading: Reading, outcomes: Sequence[_Outcome], taken: Sequence[Run], written: Written
) -> Won:
    existing = frozenset(written.existing)
    kept = [one for one, done in zip(outcomes, written.rows, strict=True) if done]
    held = [one.held for one in kept if one.held is not None and one.held.id not in existing]
    closed = among([run for _, run in reading.unheld.closed], written.closed)
    missed = [run for run in closed if run.outcome is Outcome.MISSED]
    wake_at = reading.wake_at
    for instant in (*(one.next_work for one in kept), *map(instant_or_none, written.due)):
        wake_at = earliest(wake_at, instant)
    return Won(
        [*among(taken, written.runs), *held],
        [*missed, *(run for one in kept for run in one.passed)],
        [run for run in closed if run.outcome is not Outcome.MISSED],
        wake_at,
    )


def among(runs: Sequence[Run], done: Sequence[bool]) -> list[Run]:
    """Return the runs whose change was done."""
    return [run for run, was_done in zip(runs, done, strict=True) if was_done]


def _outcome(here: Here, intent: Intent, now: Instant) -> _Outcome:
    skip, passed, folds = _passed_of(here, intent)
    run = _opened_run(here, intent, now)
    if run is not None:
        skip = None
    fresh = passed[:-1] if folds else list(passed)
    fresh += [] if run is None else [run]
    cursor = intent.plan.cursor
    moved = intent.row.changed(
        next_fire=cursor.next_fire,
        due_at=due_at(cursor),
        floor=cursor.floor,
        resumed_at=None,
        skip=skip,
    )
    openings = [opened(one) for one in fresh]
    if folds:
        openings.append(opened(passed[-1], folds=True))
    change = row_change(moved, was=intent.row, runs=openings)
    held = run if run is not None and run.holder else None
    return _Outcome(change, held, passed, fresh, _next_work(intent, now))


def _passed_of(here: Here, intent: Intent) -> tuple[Skip | None, list[Run], bool]:
    """Return the skip that a next one may fold into, what does not run, and whether it folds."""
    row, decided = intent.row, intent.plan
    skip, passed = row.skip, list[Run]()
    if decided.missed is not None:
        skip = None
        passed.append(_passed_run(here, row, decided.missed, Outcome.MISSED))
    if decided.skipped is None:
        return skip, passed, False
    folds, skipped = skip is not None, decided.skipped
    if skip is not None:
        skipped = Passed(skip.oldest, skip.count + skipped.count, skip.reason)
    passed.append(_passed_run(here, row, skipped, Outcome.SKIPPED))
    return Skip(skipped.oldest, skipped.count, skipped.reason), passed, folds


def _passed_run(here: Here, row: Row, passed: Passed, outcome: Outcome) -> Run:
    return passed_run(here.space, row.task, place=row.place, passed=passed, outcome=outcome)


def _opened_run(here: Here, intent: Intent, now: Instant) -> Run | None:
    opening, row = intent.plan.opened, intent.row
    if opening is None:
        return None
    if opening.waits:
        return waiting_run(here.space, row.task, place=row.place, opened=opening, now=now)
    return Run(
        id=run_id(here.space, row.task, row.place, opening.slot),
        task=row.task,
        place=row.place,
        fire_time=opening.slot,
        slot=opening.slot,
        trigger=opening.trigger,
        holder=here.member.holder,
        claimed_at=now,
    )


def _next_work(intent: Intent, now: Instant) -> Instant | None:
    """Return when the row has work again; None while it waits for one of its runs to end."""
    opening = intent.plan.opened
    if opening is not None and opening.waits and intent.held < intent.definition.at_once:
        return now  # what it waits for is itself not due: it may be taken at the next look
    moved = intent.plan.cursor
    due = due_at(moved)
    if due is None or due > now:
        return due
    running = intent.running + (intent.plan.opened is not None)
    try:
        waits = plan(intent.definition, moved, running, now) is None
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


def claims_of(reading: Reading, runs: Iterable[Run], good_until: Span) -> list[Claim]:
    """Return the claims on *runs*, in order of fire time."""
    known = {one.definition.name: one.definition for one in reading.intents}
    known.update(reading.unheld.known)
    claims = [Claim(run, known[run.task], good_until) for run in runs]
    claims.sort(key=lambda claim: claim.run.fire_time)
    return claims
