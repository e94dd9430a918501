"""The calls that claim runs, and those about claimed runs, for stores that processes share."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pulse.core.run import CLAIM_LOST, Claim, attempt_of
from pulse.errors import StoreUnavailableError
from pulse.store.refused_results import refused_results
from pulse.store.shared.backend import DuplicateKeyError, Posting, Transaction
from pulse.store.shared.claiming import prepare_write, result_of, wanted_claims
from pulse.store.shared.finishing import (
    any_may_run_again,
    finish_runs,
    record_runs,
    renew_runs,
)
from pulse.store.shared.posting import give_back_found, give_back_runs, post_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pulse.clock import Clock, Instant, Span
    from pulse.core.run import CompletedRun, RecordResult
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Claimed, PostedRun, ReturnedRun
    from pulse.store.shared.backend import Lease, Session
    from pulse.store.shared.calls import Calls
    from pulse.store.shared.changes import Applied, ChangeSet
    from pulse.store.shared.claiming import ClaimPlan
    from pulse.store.shared.rows import Caller
    from pulse.store.shared.unanswered import FoundClaim, UnansweredClaims


class SharedClaims:
    """Claims, records, renews, posts, takes and gives back runs; a part of `SharedStore`."""

    _calls: Calls
    _caller: Caller
    _clock: Clock
    _unanswered: UnansweredClaims

    def _note(self, now: Instant) -> None:
        """Record a reading of the store's clock."""
        raise NotImplementedError

    def _claim(self, caller: Caller, found: ClaimPlan, boot: Span) -> Claimed:
        prepared = prepare_write(caller, found, boot=boot)
        try:
            applied = self._apply_claim(prepared.changes)
        # Whatever has ended the call, what it has sent may be executed.
        except BaseException:
            for one in wanted_claims(found, prepared):
                self._unanswered.add(one.run.id, one.run.attempt, one.definition)
            raise
        claimed = result_of(found, prepared, applied, boot + caller.member.lease_us)
        self._hold(claimed.claims)
        return claimed

    def _hold(self, claims: Sequence[Claim]) -> None:
        keys = [*map(attempt_of, claims)]
        self._unanswered.held.update(keys)
        if self._unanswered.wanted:
            for key in keys:
                self._unanswered.wanted.pop(key, None)

    def _let_go(self, claims: Iterable[Claim]) -> None:
        self._unanswered.held.difference_update(map(attempt_of, claims))

    def _apply_claim(self, changes: ChangeSet) -> Applied:
        try:
            return self._calls.run(Transaction.WRITE, lambda session: session.apply(changes))
        except DuplicateKeyError:
            # A fire time has run although the cursor of its row is before it, as after a restore.
            checked = changes._replace(check_existing=True)
            return self._calls.run(Transaction.WRITE, lambda session: session.apply(checked))

    def _give_back(self, found: Sequence[FoundClaim]) -> None:
        """Give back the runs that this process has claimed without knowing it."""
        returned: Sequence[ReturnedRun] = ()
        if found:
            rule = partial(give_back_found, found=found, note=self._note)
            with self._forgetting_on_error():
                returned, written = self._calls.run_writing(
                    Transaction.WRITE, lambda session, written: rule(session, written=written)
                )
            self._calls.written.add(written)
        self._unanswered.looked(returned, self._clock.boot())

    def _find_unanswered(self, session: Session, leases: Iterable[Lease]) -> Sequence[FoundClaim]:
        with self._forgetting_on_error():
            return self._unanswered.find(session, leases)

    @contextmanager
    def _forgetting_on_error(self) -> Iterator[None]:
        """Forget the claims that are looked for: an error must not stop each heartbeat."""
        try:
            yield
        except StoreUnavailableError:
            raise
        except Exception:
            self._unanswered.wanted.clear()
            raise

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
        self._let_go(one.claim for one in completed)
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
        results = self._calls.run(Transaction.SINGLE, rule)
        self._let_go(one.claim for one in posted)
        return results

    def take(
        self, ident: str, attempt: int, *, poster: str, definition: TaskDefinition
    ) -> Claim | None:
        """Claim a run that *poster* has posted, or is posting; None where nothing is to be run."""
        self._calls.refuse_closed()
        member, boot = self._caller.member, self._clock.boot()
        posting = Posting(ident, definition.name, attempt, poster)
        try:
            run = self._calls.run(
                Transaction.SINGLE,
                lambda session: session.take_run(posting, member=member, boot=boot),
            )
        except BaseException:  # as in `_claim`
            self._unanswered.add(ident, attempt, definition)
            raise
        if run is None:
            return None
        claim = Claim(run, definition, boot + member.lease_us)
        self._hold([claim])
        return claim

    def give_back(self, returned: Sequence[ReturnedRun]) -> list[bool]:
        """Make claimed runs pending again; False stands where the claim was lost."""
        if not returned:
            return []
        results, written = self._calls.run_writing(
            Transaction.WRITE,
            lambda session, written: give_back_runs(session, returned, written, note=self._note),
        )
        self._calls.written.add(written)
        self._let_go(one.claim for one in returned)
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
