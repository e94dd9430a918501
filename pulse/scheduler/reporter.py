"""The events of one process's loop, each emitted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse import events
from pulse.carrier.base import lacks_workers
from pulse.clock import SECOND, Span
from pulse.core.error_text import message_of
from pulse.core.run import Outcome
from pulse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.clock import Clock
    from pulse.core.run import Claim, Run
    from pulse.errors import StoreUnavailableError
    from pulse.store.base import Member, Store, SyncResult


NO_WORKER_FOR: Span = 30 * SECOND
NO_WORKER = (
    "runs are posted to a queue, and for 30s no worker has taken part; start one by pulse worker,"
    " with the same configuration"
)

REMIND_AFTER: Span = 300 * SECOND
"""How often an outage that lasts is reported again."""

MAX_REASONS = 10
"""How many reasons of one outage are reported until the next reminder: a reason may hold a number
that changes with each call."""


class Reporter:
    """Emits the events of the loop: one for each outage, and one for each error until it changes.

    An outage is reported again when its reason changes to one that was not reported yet, and every
    five minutes.

    Attributes:
        failing: whether a reported outage or error has not been reported as over.
        lost_at: since when the store cannot be used, on the boot clock; None if it can.
        silent_broker: the broker that does not answer the engine; empty if there is none.

    """

    __slots__ = (
        "_bus",
        "_chosen",
        "_clock",
        "_error",
        "_failed_tasks",
        "_is_lack_reported",
        "_lacking_since",
        "_name",
        "_others",
        "_reasons",
        "_remind_at",
        "_superseded",
        "failing",
        "lost_at",
        "silent_broker",
    )

    def __init__(
        self, bus: events.EventBus, clock: Clock, *, name: str = "", chosen: bool = False
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._name = name
        self._chosen = chosen
        self.lost_at: Span | None = None
        self._remind_at: Span = 0
        self._reasons: set[str] = set()
        self._error = ""
        self.failing: bool = False
        self.silent_broker: str = ""
        self._superseded: tuple[str, ...] = ()
        self._others: tuple[str, ...] = ()
        self._lacking_since: Span | None = None
        self._is_lack_reported = False
        self._failed_tasks: dict[str, str] = {}

    def started(
        self, member: Member, store: Store, tasks: int, *, paused: tuple[str, ...] = ()
    ) -> None:
        """Report that this process takes part, how far "once" reaches, and what is paused."""
        self._bus.emit(
            events.SchedulerStarted(
                member.holder,
                member.mode,
                store.name,
                store.reach.value,
                tasks,
                name=self._name,
                chosen=self._chosen,
                paused=paused,
            )
        )

    def not_run(self, runs: Iterable[Run]) -> None:
        """Report fire times that do not run; the store has recorded them."""
        for run in runs:
            missed = run.outcome is Outcome.MISSED
            self._bus.emit(events.TickMissed(run) if missed else events.TickSkipped(run))

    def not_retried(self, runs: Iterable[Run]) -> None:
        """Report runs that have ended, since no process started their next attempt in time."""
        for run in runs:
            self._bus.emit(events.RetryExpired(run))

    def synced(self, synced: SyncResult) -> None:
        """Report what this process has changed in the store's tasks as it joined."""
        self.superseded(synced.superseded)
        if changed := tuple(name for name in synced.changed if name not in synced.overridden):
            self._bus.emit(events.TasksChanged(changed))
        self.not_run(synced.missed)
        if synced.overridden:
            self._bus.emit(events.TasksOverridden(synced.overridden))

    def task_failed(self, task: str, error: Exception) -> None:
        """Report a task that was set aside; a task of a newer release is no failure."""
        text = _described(error)
        if self._failed_tasks.get(task) == text:
            return
        self._failed_tasks[task] = text
        if isinstance(error, ConfigError):
            self._bus.emit(events.Notice(f"this process does not run a task: {error}"))
        else:
            self._bus.emit(events.SchedulerError(error, task))

    def of_engine(self, event: events.Event) -> None:
        """Report an event of the engine."""
        if isinstance(event, events.BrokerUnavailable):
            self.silent_broker = event.broker
        elif isinstance(event, events.BrokerRecovered):
            self.silent_broker = ""
        self._bus.emit(event)

    def overdue(self, claim: Claim, left_behind: int) -> None:
        """Report a run that cannot be stopped."""
        self._bus.emit(events.RunOverdue(claim, left_behind))

    def superseded(self, names: Sequence[str]) -> None:
        """Report which tasks have newer definitions in other processes, if that has changed."""
        if tuple(names) != self._superseded:
            self._superseded = tuple(names)
            self._bus.emit(events.DefinitionsSuperseded(self._superseded, self._name))

    def members(self, members: Iterable[Member], digest: str) -> None:
        """Report the live processes whose configuration has another digest, if these changed."""
        members = [*members]
        self._check_workers(lacks_workers(one.mode for one in members))
        others = tuple(sorted(one.holder for one in members if one.digest != digest))
        if others != self._others:
            self._others = others
            self._bus.emit(events.ConfigMismatch(others))

    def _check_workers(self, lacking: bool) -> None:  # noqa: FBT001 - the only argument
        """Report once that no worker takes the runs that are posted, when that lasts."""
        now = self._clock.boot()
        if not lacking:
            self._lacking_since = None
        elif self._lacking_since is None:
            self._lacking_since = now
        elif now - self._lacking_since > NO_WORKER_FOR and not self._is_lack_reported:
            self._is_lack_reported = True
            self._bus.emit(events.Notice(NO_WORKER))

    def store_unavailable(self, error: StoreUnavailableError) -> None:
        """Report that the store cannot be used, unless that was reported just now."""
        self.failing = True
        now, reason = self._clock.boot(), str(error)
        if self.lost_at is None:
            self.lost_at, self._remind_at = now, 0
        if now >= self._remind_at:
            self._remind_at = now + REMIND_AFTER
            self._reasons.clear()
        elif reason in self._reasons or len(self._reasons) >= MAX_REASONS:
            return
        self._reasons.add(reason)
        after = now - self.lost_at
        self._bus.emit(events.StoreUnavailable(reason, error.problem, after))

    def scheduler_error(self, error: Exception) -> None:
        """Report an unexpected error."""
        self.failing = True
        text = _described(error)
        if text != self._error:
            self._error = text
            self._bus.emit(events.SchedulerError(error))

    def store_recovered(self) -> bool:
        """Report that the outage or the error is over; return whether there was one."""
        self.failing = False
        if self.lost_at is None:
            failed, self._error = bool(self._error), ""
            return failed
        after, self.lost_at = self._clock.boot() - self.lost_at, None
        self._error = ""
        self._bus.emit(events.StoreRecovered(after))
        return True


def _described(error: Exception) -> str:
    """Return the type and the bounded text of an error, by which it is recognised."""
    return f"{type(error).__qualname__}: {message_of(error)}"
