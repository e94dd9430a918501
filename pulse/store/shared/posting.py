"""Hands claimed runs over to the workers of a queue, takes posted runs, and gives claims back.

A run goes from holder to holder: the process that posts it, then `QUEUE_HOLDER`, then a worker. A
worker that gets the message before `post` is written takes the run from the process that posts it.
Two comparisons, one for each of these holders, could both fail beside a `post`: the first before
it, the other after it. So `Session.take_run` compares both at once, or reads again after a refusal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import QUEUE_HOLDER, Outcome
from pulse.core.run_transitions import (
    abandon_run,
    advance_retry,
    interrupt_pending,
    post_run,
    return_run,
    take_run,
    unclaim_run,
)
from pulse.store.rules import NOT_DECLARED
from pulse.store.shared.backend import MAX_ROUNDS, too_busy
from pulse.store.shared.changes import ChangeSet, RunChange
from pulse.store.shared.finishing import still_claimed
from pulse.store.shared.rows import task_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.store.base import Member, PostedRun, ReturnedRun
    from pulse.store.shared.backend import Posting, Session, Written
    from pulse.store.shared.rows import TaskSnapshot
    from pulse.store.shared.unanswered import FoundClaim
    from pulse.store.steering import StopRequest


def post_runs(session: Session, posted: Sequence[PostedRun], *, boot: Span) -> list[bool]:
    """Post runs; False stands where the claim was lost, as to a worker that was faster."""
    changes = [
        RunChange(
            one.claim.run, post_run(one.claim.run, one.wait_us, one.queue), lease_us=one.wait_us
        )
        for one in posted
    ]
    return list(session.apply(ChangeSet(runs=changes, boot=boot)).runs)


def holders_before(poster: str) -> frozenset[str]:
    """Return the holders from which a worker takes a run that *poster* has posted.

    A pending run has an empty holder: it is not taken, whatever a message says.
    """
    return frozenset({poster or QUEUE_HOLDER, QUEUE_HOLDER})


def take_in_rounds(session: Session, posting: Posting, *, member: Member, boot: Span) -> Run | None:
    """Take a posted run where a session has no statement that compares several holders.

    A change that is refused has met `post`, or another worker: the run is read and compared again.
    Its holder never goes back while the attempt is the same, so the second round finds out which.
    """
    for _ in range(MAX_ROUNDS):
        run = session.read_runs([posting.run]).get(posting.run)
        if run is None or run.outcome is not None:
            return None
        if (run.task, run.attempt) != (posting.task, posting.attempt):
            return None
        if run.holder not in holders_before(posting.poster):
            return None
        taken = take_run(run, member.holder)
        changes = ChangeSet(runs=[RunChange(run, taken)], lease_us=member.lease_us, boot=boot)
        if all(session.apply(changes).runs):
            return taken
    raise too_busy(session.name)


def give_back_runs(
    session: Session,
    returned: Sequence[ReturnedRun],
    written: Written,
    *,
    note: Callable[[Instant], None],
) -> list[bool]:
    """Make claimed runs pending again; False stands where the claim was lost.

    *note* is called with the store's clock at each read. The runs of archived tasks end, which is
    added to *written*. A change that is refused because the row of its task moved is decided again.
    """
    results = [False] * len(returned)
    left = list(range(len(returned)))
    for _ in range(MAX_ROUNDS):
        changes = _changes_of(session, [returned[number] for number in left], note)
        applied = session.apply(ChangeSet(runs=changes)).runs
        refused: list[int] = []
        for number, change, done in zip(left, changes, applied, strict=True):
            results[number] = done
            if not done and change.guarded:
                refused.append(number)
        _collect_ended(changes, applied, written)
        claims = [one.claim for one in returned]
        left = still_claimed(session, claims, refused) if refused else []
        if not left:
            return results
    raise too_busy(session.name)


def give_back_found(
    session: Session,
    found: Sequence[FoundClaim],
    written: Written,
    *,
    note: Callable[[Instant], None],
) -> list[ReturnedRun]:
    """Make claims without an answer pending again; return those that were.

    A later claim, whose lease has another mark, is left alone. A claim whose row moved meanwhile is
    left to the next heartbeat.
    """
    returned = [one.returned for one in found]
    changes = [
        msgspec.structs.replace(change, mark=one.mark)
        for change, one in zip(_changes_of(session, returned, note), found, strict=True)
    ]
    applied = session.apply(ChangeSet(runs=changes)).runs
    _collect_ended(changes, applied, written)
    return [one for one, done in zip(returned, applied, strict=True) if done]


def _collect_ended(changes: Sequence[RunChange], applied: Sequence[bool], written: Written) -> None:
    """Add to *written* the runs of archived tasks that have ended."""
    for change, done in zip(changes, applied, strict=True):
        if done and change.run is not None and change.run.outcome is Outcome.ABANDONED:
            written.abandoned.append(change.run)


def _changes_of(
    session: Session, returned: Sequence[ReturnedRun], note: Callable[[Instant], None]
) -> list[RunChange]:
    runs = [one.claim.run for one in returned]
    stops = session.read_stops([run.id for run in runs])
    keys = {task_key(run.task, run.partition) for run in runs}
    found = session.read_tasks(sorted(keys), lock=True)
    note(found.now)
    stopped = stops()
    return [_change_of(one, found, stopped) for one in returned]


def _change_of(
    returned: ReturnedRun, found: TaskSnapshot, stops: Mapping[str, StopRequest]
) -> RunChange:
    was = returned.claim.run
    if was.id in stops:
        return RunChange(was, interrupt_pending(unclaim_run(was), stops[was.id].reason()))
    row = found.rows.get(task_key(was.task, was.partition))
    if row is None or row.archived_at is not None:
        ended = abandon_run(unclaim_run(was), NOT_DECLARED)
        return RunChange(was, ended, row, guarded=row is not None)
    run = return_run(was, returned.reason, found.now + returned.delay_us)
    if row.next_fire is not None:
        run = advance_retry(run, row.next_fire)
    return RunChange(was, run, row, guarded=True)
