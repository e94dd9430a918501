"""The calls about runs that are claimed, for the stores that several processes share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pulse.core.run import CLAIM_LOST, Claim
from pulse.store.refused_results import refused_results
from pulse.store.shared.backend import Posting, Transaction
from pulse.store.shared.finishing import (
    any_may_run_again,
    finish_runs,
    record_runs,
    renew_runs,
)
from pulse.store.shared.posting import give_back_runs, post_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.clock import Clock, Instant
    from pulse.core.run import CompletedRun, RecordResult
    from pulse.core.task import TaskDefinition
    from pulse.store.base import PostedRun, ReturnedRun
    from pulse.store.shared.backend import Session
    from pulse.store.shared.calls import Calls
    from pulse.store.shared.rows import Caller


class SharedClaims:
    """Records, renews, posts, takes and gives back claimed runs; a part of `SharedStore`."""

    _calls: Calls
    _caller: Caller
    _clock: Clock

    def _note(self, now: Instant) -> None:
        """Record a reading of the store's clock."""
        raise NotImplementedError

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record how runs ended; return what became of each."""
        if not completed:
            return []
        if any_may_run_again(completed):
            rule = partial(finish_runs, completed=completed, note=self._note)
            results = self._calls.run(Transaction.WRITE, rule)
        else:
            results = self._calls.run(Transaction.SINGLE, partial(record_runs, completed=completed))
        if CLAIM_LOST in results:
            keep = partial(_keep_refused, completed=completed, results=results)
            self._calls.run(Transaction.WRITE, keep)
        return results

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Renew the leases of claimed runs; False stands where the claim was lost."""
        if not claims:
            return []
        self._calls.refuse_closed()
        lease_us, boot = self._caller.member.lease_us, self._clock.boot()
        rule = partial(renew_runs, claims=claims, lease_us=lease_us, boot=boot)
        return self._calls.run(Transaction.SINGLE, rule)

    def post(self, posted: Sequence[PostedRun]) -> list[bool]:
        """Hand claimed runs over to the workers of a queue; False stands for a claim that is lost.

        A claim is lost to a worker that has taken the run already, which is no error.
        """
        if not posted:
            return []
        rule = partial(post_runs, posted=posted, boot=self._clock.boot())
        return self._calls.run(Transaction.SINGLE, rule)

    def take(
        self, ident: str, attempt: int, *, poster: str, definition: TaskDefinition
    ) -> Claim | None:
        """Claim a run that *poster* has posted, or is posting; None where nothing is to be run."""
        self._calls.refuse_closed()
        member, boot = self._caller.member, self._clock.boot()
        posting = Posting(ident, definition.name, attempt, poster)
        run = self._calls.run(
            Transaction.SINGLE,
            lambda session: session.take_run(posting, member=member, boot=boot),
        )
        return None if run is None else Claim(run, definition, boot + member.lease_us)

    def give_back(self, returned: Sequence[ReturnedRun]) -> list[bool]:
        """Make claimed runs pending again; False stands where the claim was lost."""
        if not returned:
            return []
        results, written = self._calls.run_writing(
            Transaction.WRITE,
            lambda session, written: give_back_runs(session, returned, written, note=self._note),
        )
        self._calls.written.add(written)
        return results

    def runtime_definition(self, task: str) -> TaskDefinition | None:
        """Return the definition of a task that was added at run time; None if there is none."""
        rows = self._calls.run(
            Transaction.READ, lambda session: session.read_tasks_named(task).in_use().rows
        )
        for row in rows.values():
            if row.task_json is not None:
                return self._caller.load_task(row.task, row.task_json)
        return None


def _keep_refused(
    session: Session, completed: Sequence[CompletedRun], results: Sequence[RecordResult]
) -> None:
    """Keep the results of attempts that were dispatched and are not on record."""
    lost = [
        one.claim.run.id
        for one, became in zip(completed, results, strict=True)
        if not became.recorded
    ]
    refused = refused_results(completed, results, session.read_runs(lost), now=session.now())
    if refused:
        session.add_refused(refused)
