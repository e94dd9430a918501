"""What keeps a process in the fleet: the renewal of leases, and heartbeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pulse import events
from pulse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pulse.clock import Span
    from pulse.core.run import Claim
    from pulse.scheduler.completer import Completer
    from pulse.scheduler.reporter import Reporter
    from pulse.store.base import HeartbeatResult, Member

HEARTBEAT_INTERVAL: Span = 750_000
"""The longest time between two heartbeats. An observer notices a new lease at most this much late:
the tasks of a dead holder continue within a lease and a second."""

NEVER: Span = 2**62


class HeartbeatStore(Protocol):
    """What a heartbeat calls of a store."""

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of claimed runs; return False for each claim that was lost."""

    def heartbeat(self) -> HeartbeatResult:
        """Record that this member lives, and abandon the runs of dead members."""


class Heartbeat:
    """Calls the store at deadlines of the boot clock; the loop calls `begin` in each turn.

    Args:
        member: this process; leases are renewed every third of its lease.
        store: the store, in which the process takes part.
        completer: names the claims whose leases are renewed.
        reporter: reports what a heartbeat found.
        bus: takes the events of runs that a heartbeat abandoned.
        interrupt: interrupts a run in progress, for a reason.

    Attributes:
        next_at: the earliest deadline; `NEVER` until the process takes part.
        started: whether the process takes part.
        machines: how many machines the last heartbeat found in the fleet.

    """

    __slots__ = (
        "_beat_at",
        "_bus",
        "_completer",
        "_interrupt",
        "_interval",
        "_member",
        "_renew_at",
        "_reporter",
        "_store",
        "machines",
        "next_at",
        "started",
    )

    def __init__(
        self,
        member: Member,
        store: HeartbeatStore,
        *,
        completer: Completer,
        reporter: Reporter,
        bus: events.EventBus,
        interrupt: Callable[[Claim, str], None],
    ) -> None:
        self._member = member
        self._store = store
        self._completer = completer
        self._reporter = reporter
        self._bus = bus
        self._interrupt = interrupt
        self._interval = member.lease_us // 3
        self._renew_at = self._beat_at = NEVER
        self.next_at: Span = NEVER
        self.started: bool = False
        self.machines: int = 1

    def start(self, now: Span) -> None:
        """Make both due: this process takes part from now on."""
        self._renew_at = self._beat_at = self.next_at = now
        self.started = True

    def repeat(self) -> None:
        """Make a heartbeat due in the next turn: a call of the store has failed.

        The heartbeat after a failed call writes. So a store that can be read and not written does
        not seem to have recovered in the turns in which nothing is to be written.
        """
        if self.started:
            self._beat_at = self.next_at = 0

    def hasten(self, at: Span) -> None:
        """Make the next heartbeat due at an instant of the boot clock at the latest."""
        self._beat_at = min(self._beat_at, at)
        self.next_at = min(self._renew_at, self._beat_at)

    def begin(self, now: Span, *, early: Span = 0, interval: Span = HEARTBEAT_INTERVAL) -> bool:
        """Renew leases if that is due; return whether a heartbeat is due up to *early* later.

        The caller sends the heartbeat, by `send` or together with a claim; the next one is due
        after *interval*, and after a third of a lease at the latest.

        Raises:
            StoreUnavailableError: the store cannot be used; the renewal is due in the next turn.

        """
        is_due = now >= self._beat_at - early
        try:
            if now >= self._renew_at:
                self._renew_at = now + self._interval
                self._renew()
            if is_due:
                self._beat_at = now + min(interval, self._interval)
        finally:
            self.next_at = min(self._renew_at, self._beat_at)
        return is_due

    def _renew(self) -> None:
        held = self._completer.in_progress()
        if not held:
            return
        try:
            self._store.renew(held)
        except StoreUnavailableError:
            # Due in the next turn, not in a third of a lease: others may take the runs by then.
            self._renew_at = 0
            raise

    def send(self) -> None:
        """Send a heartbeat; raises StoreUnavailableError."""
        self.report(self._store.heartbeat())

    def report(self, beat: HeartbeatResult) -> None:
        """Report what a heartbeat found."""
        if beat.next_expiry is not None:
            self.hasten(beat.next_expiry)
        for ident, request in beat.stops.items():
            claim = self._completer.stopping(ident, request.reason())
            if claim is not None:
                self._interrupt(claim, request.reason())
        for run in beat.abandoned:
            self._bus.emit(events.RunAbandoned(run))
        for task in beat.resumed:
            self._bus.emit(events.TaskResumed(task, ended=True))
        for task in beat.removed:
            self._bus.emit(events.TaskRemoved(task, done=True))
        self._reporter.superseded(beat.superseded)
        self._reporter.not_run(beat.missed)
        self._reporter.not_retried(beat.expired_retries)
        if beat.archived:
            self._bus.emit(events.TasksArchived(beat.archived))
        self.machines = max(1, len({one.machine for one in beat.members}))
        self._reporter.members(beat.members, self._member.digest)
