"""What one process's loop has to tell, and what it has told already: nothing is told twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse import events
from pulse.core.run import Outcome
from pulse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim, Run
    from pulse.errors import StoreUnavailableError
    from pulse.store.base import Member, Store, SyncResult


class Reporter:
    """Emits what happens in the loop: an outage once, an error once until it is another one."""

    __slots__ = (
        "_bus",
        "_chosen",
        "_clock",
        "_error",
        "_lost_at",
        "_name",
        "_others",
        "_superseded",
        "_unplanned",
        "failing",
    )

    def __init__(
        self, bus: events.EventBus, clock: Clock, *, name: str = "", chosen: bool = False
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._name = name
        self._chosen = chosen
        self._lost_at: Span | None = None
        self._error = ""
        self.failing: bool = False
        self._superseded: tuple[str, ...] = ()
        self._others: tuple[str, ...] = ()
        self._unplanned: dict[str, str] = {}

    def started(self, member: Member, store: Store, tasks: int) -> None:
        """Tell that this process takes part, and how far "once" reaches."""
        self._bus.emit(
            events.SchedulerStarted(
                member.holder,
                member.mode,
                store.name,
                store.reach.value,
                tasks,
                name=self._name,
                chosen=self._chosen,
            )
        )

    def not_run(self, runs: Iterable[Run]) -> None:
        """Tell of fire times that do not run; the store has them on record."""
        for run in runs:
            missed = run.outcome is Outcome.MISSED
            self._bus.emit(events.TickMissed(run) if missed else events.TickSkipped(run))

    def synced(self, synced: SyncResult) -> None:
        """Tell what this process has done to the store's tasks as it joined."""
        self.superseded(synced.superseded)
        if changed := tuple(name for name in synced.changed if name not in synced.overridden):
            self._bus.emit(events.TasksChanged(changed))
        self.not_run(synced.missed)
        if synced.overridden:
            self._bus.emit(events.TasksOverridden(synced.overridden))

    def task_failed(self, task: str, error: Exception) -> None:
        """Tell of a task that was set aside; one of a newer release is no failure."""
        if self._unplanned.get(task) == repr(error):
            return
        self._unplanned[task] = repr(error)
        if isinstance(error, ConfigError):
            self._bus.emit(events.Notice(f"this process leaves a task alone; {error}"))
        else:
            self._bus.emit(events.SchedulerError(error, task))

    def overdue(self, claim: Claim, left_behind: int) -> None:
        """Tell of a run that cannot be stopped."""
        self._bus.emit(events.RunOverdue(claim, left_behind))

    def superseded(self, names: Sequence[str]) -> None:
        """Tell which tasks have newer definitions elsewhere, where they are others than before."""
        if tuple(names) != self._superseded:
            self._superseded = tuple(names)
            self._bus.emit(events.DefinitionsSuperseded(self._superseded, self._name))

    def members(self, members: Iterable[Member], digest: str) -> None:
        """Tell which live processes hold other tasks than *digest* stands for, if others do now."""
        others = tuple(sorted(one.holder for one in members if one.digest != digest))
        if others != self._others:
            self._others = others
            self._bus.emit(events.ConfigMismatch(others))

    def store_unavailable(self, error: StoreUnavailableError) -> None:
        """Tell that the store does not answer."""
        self.failing = True
        if self._lost_at is None:
            self._lost_at = self._clock.boot()
            self._bus.emit(events.StoreUnavailable(str(error)))

    def scheduler_error(self, error: Exception) -> None:
        """Tell of an error that nobody foresaw."""
        self.failing = True
        if repr(error) != self._error:
            self._error = repr(error)
            self._bus.emit(events.SchedulerError(error))

    def store_recovered(self) -> bool:
        """Tell that what was lost or failed is well again; return whether anything was."""
        self.failing = False
        if self._lost_at is None:
            failed, self._error = bool(self._error), ""
            return failed
        after, self._lost_at = self._clock.boot() - self._lost_at, None
        self._error = ""
        self._bus.emit(events.StoreRecovered(after))
        return True
