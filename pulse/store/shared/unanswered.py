"""Claims whose answers were lost: a call has failed, and the storage may have executed it.

No process has begun such a run, since its holder does not know of it. So the holder gives it back
with its first heartbeat after the failure, and the run is claimed again; otherwise it would be
abandoned a lease later. A server may also execute the call after it has answered later ones, as
where a process of PostgreSQL was stopped in between. So the holder looks for each run until a lease
has passed since that heartbeat.

An attempt that this process knows to hold is never looked for: a second message, or a second plan,
may name a run that is being executed. Such an attempt is held until its end is recorded, or it is
posted or given back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.core.run import Claim, attempt_of
from pulse.store.base import ReturnedRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.clock import Span
    from pulse.core.run import AttemptKey
    from pulse.core.task import TaskDefinition
    from pulse.store.shared.backend import Lease, Session

ANSWER_LOST = "the answer of the store to its claim was lost"


class FoundClaim(NamedTuple):
    """A claim without an answer that was written, to be given back, and the mark of its lease."""

    returned: ReturnedRun
    mark: int


class WantedAttempt(NamedTuple):
    """The task of an attempt, and until when it is looked for; None before the first look."""

    definition: TaskDefinition
    until: Span | None


class UnansweredClaims:
    """The attempts that this process may have claimed without knowing it.

    Args:
        holder: this process.
        lease_us: the length of its leases.

    Attributes:
        held: the attempts that this process holds, and knows of.
        wanted: the attempts to look for, each with its task.

    """

    def __init__(self, holder: str, lease_us: Span) -> None:
        self._holder = holder
        self._lease_us = lease_us
        self.held: set[AttemptKey] = set()
        self.wanted: dict[AttemptKey, WantedAttempt] = {}

    def add(self, run: str, attempt: int, definition: TaskDefinition) -> None:
        """Note an attempt that a failed call was to claim."""
        if (run, attempt) not in self.held:
            self.wanted[run, attempt] = WantedAttempt(definition, None)

    def find(self, session: Session, leases: Iterable[Lease]) -> Sequence[FoundClaim]:
        """Return the attempts that the storage has as claimed by this process.

        *leases* were read before: a run without one was claimed later, and is found the next time.
        """
        marks = {one.run: one.mark for one in leases}
        runs = session.read_runs(sorted({run for run, _ in self.wanted if run in marks}))
        return [
            FoundClaim(ReturnedRun(Claim(run, wanted.definition, 0), 0, ANSWER_LOST), marks[ident])
            for (ident, attempt), wanted in self.wanted.items()
            if (run := runs.get(ident)) is not None
            and (run.holder, run.attempt, run.outcome) == (self._holder, attempt, None)
        ]

    def looked(self, given_back: Iterable[ReturnedRun], boot: Span) -> None:
        """Forget the attempts that were given back, and each one a lease after its first look."""
        for one in given_back:
            self.wanted.pop(attempt_of(one.claim), None)
        for key, wanted in [*self.wanted.items()]:
            if wanted.until is None:
                self.wanted[key] = wanted._replace(until=boot + self._lease_us)
            elif boot >= wanted.until:
                del self.wanted[key]
