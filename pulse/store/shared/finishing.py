"""Records how runs ended, decides whether they are retried, and renews leases."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.core.retry import may_run_again
from pulse.core.run import CLAIM_LOST, RECORDED, RecordResult
from pulse.core.run_transitions import finish_run, schedule_retry
from pulse.store.rules import NextTick, next_attempt_at
from pulse.store.shared.backend import MAX_ROUNDS
from pulse.store.shared.changes import ChangeSet, RunChange
from pulse.store.shared.rows import task_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Claim, CompletedRun
    from pulse.store.shared.backend import Session
    from pulse.store.shared.rows import TaskSnapshot


class _Decision(NamedTuple):
    """The change of a run that ended, and the result if it is applied."""

    change: RunChange
    result: RecordResult


def any_may_run_again(completed: Iterable[CompletedRun]) -> bool:
    """Return whether a run of *completed* may be retried, so that its row has to be read first."""
    return any(may_run_again(claim, result) for claim, result in completed)


def record_runs(session: Session, completed: Sequence[CompletedRun]) -> list[RecordResult]:
    """Record runs whose claims still hold and that are not retried."""
    changes = [RunChange(run.claim.run, finish_run(run.claim.run, run.result)) for run in completed]
    applied = session.apply(ChangeSet(runs=changes)).runs
    return [RECORDED if done else CLAIM_LOST for done in applied]


def finish_runs(
    session: Session, completed: Sequence[CompletedRun], *, note: Callable[[Instant], None]
) -> list[RecordResult]:
    """Record runs whose claims still hold, or schedule their next attempts.

    *note* is called with the store's clock at each read.

    A change that is refused because the row of its task moved is decided again: the next tick,
    which bounds a retry, may be another one. After `MAX_ROUNDS` the run is recorded as finished,
    whatever its row says, so that no result is lost.
    """
    results = [CLAIM_LOST] * len(completed)
    left = list(range(len(completed)))
    for round_ in range(MAX_ROUNDS + 1):
        batch = [completed[number] for number in left]
        decisions = (
            _decide(session, batch, note) if round_ < MAX_ROUNDS else [*map(_finished, batch)]
        )
        applied = session.apply(ChangeSet(runs=[one.change for one in decisions])).runs
        refused: list[int] = []
        for number, decision, done in zip(left, decisions, applied, strict=True):
            if done:
                results[number] = decision.result
            elif decision.change.guarded:
                refused.append(number)
        claims = [one.claim for one in completed]
        left = still_claimed(session, claims, refused) if refused else []
        if not left:
            break
    return results


def _decide(
    session: Session, completed: Sequence[CompletedRun], note: Callable[[Instant], None]
) -> list[_Decision]:
    repeated = [claim.run for claim, result in completed if may_run_again(claim, result)]
    stops = session.read_stops([run.id for run in repeated])
    keys = {task_key(run.task, run.partition) for run in repeated}
    found = session.read_tasks(sorted(keys), lock=True)
    note(found.now)
    stopped = stops()
    return [_decision_of(one, found, stopped) for one in completed]


def _finished(completed_run: CompletedRun) -> _Decision:
    claim, result = completed_run
    return _Decision(RunChange(claim.run, finish_run(claim.run, result)), RECORDED)


def _decision_of(
    completed_run: CompletedRun, found: TaskSnapshot, stopped: Collection[str]
) -> _Decision:
    claim, result = completed_run
    run = claim.run
    if not may_run_again(claim, result) or run.id in stopped:
        return _finished(completed_run)
    key = task_key(run.task, run.partition)
    row = found.rows.get(key)
    active = row is not None and row.archived_at is None
    tick = NextTick(row.next_fire, found.unfinished[key]) if row is not None and active else None
    at = next_attempt_at(claim, result, row=tick, now=found.now)
    guarded = row is not None
    if at is None:
        return _Decision(RunChange(run, finish_run(run, result), row, guarded=guarded), RECORDED)
    change = RunChange(run, schedule_retry(run, result, at), row, guarded=guarded)
    return _Decision(change, RecordResult(recorded=True, retry_at=at))


def still_claimed(session: Session, claims: Sequence[Claim], numbers: Sequence[int]) -> list[int]:
    """Return those of *numbers* whose claims, counted from 0, still hold."""
    runs = session.read_runs([claims[number].run.id for number in numbers])
    left: list[int] = []
    for number in numbers:
        claimed = claims[number].run
        run = runs.get(claimed.id)
        same = run is not None and (run.holder, run.attempt) == (claimed.holder, claimed.attempt)
        if run is not None and same and run.outcome is None:
            left.append(number)
    return left


def renew_runs(
    session: Session, claims: Sequence[Claim], *, lease_us: Span, boot: Span
) -> list[bool]:
    """Renew the leases of runs; False stands where the claim was lost."""
    changes = [RunChange(claim.run, None) for claim in claims]
    return list(session.apply(ChangeSet(runs=changes, lease_us=lease_us, boot=boot)).runs)
