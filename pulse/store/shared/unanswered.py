"""Claims whose answers were lost: a call has failed, and the storage may have executed it.

No process has begun such a run, since its holder does not know of it. So the holder gives it back
with its first heartbeat after the failure, and the run is claimed again; otherwise it would be
abandoned a lease later. A server may also execute the call after it has answered later ones, as
where a process of PostgreSQL was stopped in between. So the holder looks for the runs until a lease
has passed since that heartbeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.core.run import Claim
from pulse.store.base import ReturnedRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.clock import Span
    from pulse.core.task import TaskDefinition
    from pulse.store.shared.backend import Session

ANSWER_LOST = "the answer of the store to its claim was lost"

_Key = tuple[str, int]
"""The id of a run, and the number of its attempt."""


class UnansweredClaims:
    """The attempts that this process may have claimed without knowing it, from call to call.

    Args:
        holder: this process.
        lease_us: the length of its leases.

    """

    def __init__(self, holder: str, lease_us: Span) -> None:
        self._holder = holder
        self._lease_us = lease_us
        self._definitions: dict[_Key, TaskDefinition] = {}
        self._until: Span | None = None

    def __bool__(self) -> bool:
        """Return whether there are such attempts."""
        return bool(self._definitions)

    def add(self, run: str, attempt: int, definition: TaskDefinition) -> None:
        """Note an attempt that a failed call was to claim."""
        self._definitions[run, attempt] = definition
        self._until = None

    def won(self, claims: Iterable[Claim]) -> None:
        """Forget attempts that a later call has claimed: this process knows of them."""
        if self._definitions:  # nearly never
            for claim in claims:
                self._definitions.pop((claim.run.id, claim.run.attempt), None)

    def find(self, session: Session) -> Sequence[ReturnedRun]:
        """Return those that the storage has as claimed by this process, to be given back."""
        runs = session.read_runs(sorted({run for run, _ in self._definitions}))
        return [
            ReturnedRun(Claim(run, definition, 0), 0, ANSWER_LOST)
            for (ident, attempt), definition in self._definitions.items()
            if (run := runs.get(ident)) is not None
            and (run.holder, run.attempt, run.outcome) == (self._holder, attempt, None)
        ]

    def looked(self, given_back: Iterable[ReturnedRun], boot: Span) -> None:
        """Forget the runs that were given back, and all of them a lease after the first look."""
        for one in given_back:
            self._definitions.pop((one.claim.run.id, one.claim.run.attempt), None)
        if self._until is None:
            self._until = boot + self._lease_us
        elif boot >= self._until:
            self._definitions.clear()
