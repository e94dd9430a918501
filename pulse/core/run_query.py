"""Which runs of the history are wanted, and one page of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

import msgspec

from pulse.clock import Instant  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.run import Outcome, Run, Trigger

if TYPE_CHECKING:
    from collections.abc import Iterable

PENDING, RUNNING = "pending", "running"
"""The states of a run without an outcome: waiting in the store or for a worker, or claimed."""

STATES = frozenset((PENDING, RUNNING, *map(str, Outcome)))
"""What `RunQuery.states` may hold."""

WENT_WRONG = STATES - {PENDING, RUNNING, str(Outcome.SUCCEEDED), str(Outcome.SKIPPED)}
"""The outcomes that the stores index."""


EXECUTED = frozenset(
    map(
        str,
        (
            Outcome.SUCCEEDED,
            Outcome.FAILED,
            Outcome.TIMED_OUT,
            Outcome.INTERRUPTED,
            Outcome.ABANDONED,
        ),
    )
)
"""The outcomes of runs that a process has begun."""

KEPT_LONGER = frozenset(map(str, (Outcome.FAILED, Outcome.ABANDONED, Outcome.TIMED_OUT)))
"""The outcomes of runs that are kept for `keep_failures`, which may be longer than `keep_for`."""

MOST_FAILURES = 1_000
"""Failures of a task are counted up to this number."""


class LastRuns(NamedTuple):
    """How the newest runs of a task ended, as far as the history is kept.

    Attributes:
        outcome: that of the newest run that a process has begun and that has ended.
        ended_at: when that run ended; when it was claimed, if no end is known.
        succeeded_at: when the newest run that succeeded ended.
        failures: how many runs after that one have ended otherwise.

    """

    outcome: Outcome | None = None
    ended_at: Instant | None = None
    succeeded_at: Instant | None = None
    failures: int = 0


NO_RUNS = LastRuns()


def ended_at(run: Run) -> Instant | None:
    """Return when a run ended; when it was claimed, if no end is known."""
    if run.started_at is None or run.took_us is None:
        return run.claimed_at
    return run.started_at + run.took_us


def state_of(run: Run) -> str:
    """Return the outcome of a run, or `pending` or `running`."""
    if run.outcome is not None:
        return run.outcome.value
    return RUNNING if run.in_progress else PENDING


class RunQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the history, newest first; a field that is None leaves nothing out.

    Attributes:
        task: the name of a task.
        states: outcomes, and `pending` and `running`.
        trigger: why a run was created.
        holder: the process that has claimed a run last.
        since: the earliest fire time.
        until: the fire time before which all are.
        before: the cursor of the page before; None for the newest runs.
        limit: how many runs the page has at most.

    """

    task: str | None = None
    states: frozenset[str] | None = None
    trigger: Trigger | None = None
    holder: str | None = None
    since: Instant | None = None
    until: Instant | None = None
    before: int | None = None
    limit: int = 100

    @property
    def is_filter(self) -> bool:
        """Whether runs of the task may be left out, so that many are examined for one page."""
        words = (self.states, self.trigger, self.holder, self.since, self.until)
        return any(word is not None for word in words)

    def selects(self, run: Run) -> bool:
        """Return whether a run is wanted, wherever it stands in the history."""
        return (
            (self.task is None or run.task == self.task)
            and (self.states is None or state_of(run) in self.states)
            and (self.trigger is None or run.trigger is self.trigger)
            and (self.holder is None or run.holder == self.holder)
            and (self.since is None or run.fire_time >= self.since)
            and (self.until is None or run.fire_time < self.until)
        )


class RunPage(Sequence[Run]):
    """Runs of the history, newest first.

    Attributes:
        cursor: the argument *before* of the next page; None if there is none. A page may have fewer
            runs than its limit, or none, and a cursor: then the search stopped before the end.

    """

    __slots__ = ("_runs", "cursor")

    def __init__(self, runs: Iterable[Run], cursor: int | None) -> None:
        self._runs = tuple(runs)
        self.cursor: int | None = cursor

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int, /) -> Run: ...
    @overload
    def __getitem__(self, index: slice, /) -> Sequence[Run]: ...

    def __getitem__(self, index: int | slice, /) -> Run | Sequence[Run]:
        return self._runs[index]

    def __repr__(self) -> str:
        return f"RunPage({list(self._runs)!r}, cursor={self.cursor!r})"


def page_of(numbered: Iterable[tuple[int, Run]], *, limit: int, stopped_at: int | None) -> RunPage:
    """Return a page of runs with their history numbers, newest first.

    Args:
        numbered: the runs that a query selects; those beyond the limit show that there are more.
        limit: how many runs the page has at most.
        stopped_at: the number of the last run that was examined, if the history goes on after it.

    """
    found = list(numbered)
    cursor = stopped_at
    if len(found) > limit:
        found = found[:limit]
        cursor = found[-1][0] if found else None
    return RunPage((run for _, run in found), cursor)
