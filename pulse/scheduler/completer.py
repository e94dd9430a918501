"""The claims of a process until the store has recorded how they ended, or that they left it.

A claim leaves a process that does not execute the run: it is posted to the workers of a queue, or
given back (`pulse.engine.posted`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

import msgspec

from pulse import events
from pulse.core.policies import Misfire, Overlap
from pulse.core.run import CompletedRun, Outcome, Trigger
from pulse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pulse.core.run import Claim, RecordResult
    from pulse.core.task import TaskDefinition
    from pulse.store.base import PostedRun, ReturnedRun, Store

    L = TypeVar("L", PostedRun, ReturnedRun)

_INTERRUPTED = Outcome.INTERRUPTED
_PLANNED = frozenset((Trigger.SCHEDULE, Trigger.CATCH_UP))


class Completer:
    """Keeps each claim until its end is recorded, then emits the event.

    Args:
        store: records the ends.
        definitions: the tasks of this process's configuration.
        bus: takes an event for each end that is recorded or refused.

    Attributes:
        interrupted: how many runs have been interrupted.
        waiting: the ends that are not recorded yet; any thread may add to them.
        put: adds an end, which is recorded in one batch with other ends.
        posted: the claims to hand over to workers; any thread may add to them.
        returned: the claims to give back; likewise.

    """

    __slots__ = (
        "_bus",
        "_claims",
        "_independent",
        "_stopping",
        "_store",
        "interrupted",
        "posted",
        "put",
        "returned",
        "waiting",
    )

    def __init__(
        self, store: Store, bus: events.EventBus, definitions: Mapping[str, TaskDefinition]
    ) -> None:
        self._store = store
        self._bus = bus
        self._claims: dict[str, Claim] = {}
        self._stopping: dict[str, str] = {}
        self._independent = {
            name: definition
            for name, definition in definitions.items()
            if definition.overlap is not Overlap.WAIT and definition.misfire is not Misfire.ALL
        }
        self.waiting: deque[CompletedRun] = deque()
        self.put: Callable[[CompletedRun], None] = self.waiting.append
        self.posted: deque[PostedRun] = deque()
        self.returned: deque[ReturnedRun] = deque()
        self.interrupted: int = 0

    def track(self, claims: Iterable[Claim]) -> None:
        """Note that this process has won *claims*."""
        held = self._claims
        for claim in claims:
            held[claim.run.id] = claim

    @property
    def busy(self) -> bool:
        """Whether a claim is not recorded as ended yet."""
        return bool(self._claims)

    @property
    def claim_count(self) -> int:
        """How many claims are not recorded as ended yet."""
        return len(self._claims)

    def stopping(self, ident: str, reason: str) -> Claim | None:
        """Return the claim of a run that is to be stopped, if it is held here.

        If the run ends as interrupted, *reason* is recorded with it.
        """
        claim = self._claims.get(ident)
        if claim is not None:
            self._stopping[ident] = reason
        return claim

    def in_progress(self) -> Sequence[Claim]:
        """Return the claims whose leases have to be renewed."""
        return list(self._claims.values())

    @property
    def has_work(self) -> bool:
        """Whether there is something to record."""
        return bool(self.waiting or self.posted or self.returned)

    def flush(self) -> bool:
        """Record what has ended or left; return whether that may have made a run claimable.

        Raises:
            StoreUnavailableError: the store does not answer; what is not recorded waits.

        """
        # A worker may take a posted run before this: the store then refuses it, which is no error.
        self._let_go(self.posted, self._store.post)
        unblocks = self._let_go(self.returned, self._store.give_back)
        return self._record_ends() or unblocks

    def _let_go(self, left: deque[L], record: Callable[[Sequence[L]], object]) -> bool:
        """Record claims that leave this process; return whether there were any."""
        batch = list(left)
        if not batch:
            return False
        try:
            record(batch)
        except StoreUnavailableError:
            raise
        # One claim that the store cannot record must not keep the others from being recorded.
        except Exception:  # noqa: BLE001 - the reason is above
            self._let_each_go(batch, record)
        for one in batch:
            left.popleft()
            self._forget(one.claim)
        return True

    def _let_each_go(self, batch: Sequence[L], record: Callable[[Sequence[L]], object]) -> None:
        """Record claims one by one; the lease of what the store cannot record ends by itself."""
        for one in batch:
            try:
                record([one])
            except StoreUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - as in `_let_go`
                self._bus.emit(events.SchedulerError(error, one.claim.run.task))

    def _record_ends(self) -> bool:
        batch = list(self.waiting)
        if not batch:
            return False
        if self._stopping:
            batch = [self._with_reason(one) for one in batch]
        try:
            return self._record_all(batch)
        except StoreUnavailableError:
            raise
        # One end that the store cannot record must not keep the others from being recorded.
        except Exception:  # noqa: BLE001 - the reason is above
            for completed_run in batch:
                self._record_one(completed_run)
        return True

    def forget_independent(self, task: str) -> None:
        """Let each end of a run of *task* cause a claim, since its schedule has failed."""
        self._independent.pop(task, None)

    def drain(self, linger: Callable[[], bool]) -> None:
        """Record the ends that are left; others are abandoned when their leases end.

        Args:
            linger: waits for a store that does not answer; returns False if the process has to end.

        """
        while True:
            try:
                self.flush()
            except StoreUnavailableError:
                if not linger():
                    return
            else:
                return

    def _record_all(self, batch: Sequence[CompletedRun]) -> bool:
        finished = self._store.finish(batch)
        unblocks = False
        for completed_run, became in zip(batch, finished, strict=True):
            self._remove(completed_run.claim)
            self._emit(completed_run, became)
            unblocks = unblocks or self._may_unblock(completed_run.claim, became)
        return unblocks

    def _may_unblock(self, claim: Claim, became: RecordResult) -> bool:
        """Return whether the end of a run may make a run claimable: another one, or itself again.

        The result is False only if all of these hold:

        - The run is recorded, and not retried or requeued.
        - The task is one of this process's configuration, with the definition that the run was
          claimed with. A task that was added at run time may have been replaced meanwhile.
        - No fire time waits for the end, as under `misfire = all`, and no run, as under
          `overlap = wait`. Under `skip` and `allow` as many runs are claimed as may be unfinished.
        - The run was opened for a fire time, under that bound, and this was its first attempt. A
          run that was pending may come from an earlier definition, which allowed others beside it.
        """
        run = claim.run
        return (
            not became.recorded
            or became.retry_at is not None
            or self._independent.get(run.task) is not claim.definition
            or run.attempt != 1
            or run.trigger not in _PLANNED
        )

    def _with_reason(self, completed_run: CompletedRun) -> CompletedRun:
        """Return the end of a run; with the reason if it was interrupted on request."""
        claim, result = completed_run
        reason = self._stopping.get(claim.run.id)
        if reason is None or result.outcome is not _INTERRUPTED:
            return completed_run
        message = result.message
        if not message.startswith(reason):
            message = f"{reason}\n{message}".rstrip()
        return CompletedRun(claim, msgspec.structs.replace(result, message=message))

    def _record_one(self, completed_run: CompletedRun) -> None:
        """Record one end: as it is, else without its message; else the lease of the run ends it."""
        for attempt in (completed_run, _without_message(completed_run)):
            try:
                self._record_all([attempt])
            except StoreUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - as in `flush`
                unexpected = error
            else:
                return
        self._remove(completed_run.claim)
        self._bus.emit(events.SchedulerError(unexpected, completed_run.claim.run.task))

    def _remove(self, claim: Claim) -> None:
        self.waiting.popleft()
        self._forget(claim)

    def _forget(self, claim: Claim) -> None:
        # A later attempt at the same run may have come here since this one lost its claim.
        if self._claims.get(claim.run.id) is claim:
            del self._claims[claim.run.id]
            if self._stopping:
                self._stopping.pop(claim.run.id, None)

    def _emit(self, completed_run: CompletedRun, became: RecordResult) -> None:
        if completed_run.result.outcome is _INTERRUPTED:
            self.interrupted += 1
        if became.retry_at is not None:
            self._bus.emit(
                events.RunRetrying(completed_run.claim, completed_run.result, became.retry_at)
            )
            return
        kind = events.RunEnded if became.recorded else events.ClaimLost
        if self._bus.has_listeners(kind):
            self._bus.emit(kind(completed_run.claim, completed_run.result))


def _without_message(completed_run: CompletedRun) -> CompletedRun:
    bare = msgspec.structs.replace(
        completed_run.result, message="the message of the run could not be recorded"
    )
    return CompletedRun(completed_run.claim, bare)
