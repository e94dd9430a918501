"""The recovery window after a store outage, in which no tick is skipped.

Runs may have finished while the store was down and not be recorded yet. The first process that
claims after the outage sees these runs as unfinished, and a tick that it skipped for one of them
would be lost for no reason. So until every process had time to record its results, such a tick
stays undecided: it waits until it may run, or until the window ends. It waits no longer than its
grace, and it is decided before the next fire time: so its recorded reason stays correct, and a
store that fails repeatedly does not defer ticks for long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.cursor import jitter_of

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.planner import Plan
    from pulse.core.task import TaskDefinition

RECOVERY_WINDOW: Span = SECOND
"""How long the window lasts: each process retries to record its results at least this often."""

RECHECK_AFTER: Span = 100_000
"""When a deferred tick is planned again."""

MARGIN: Span = 400_000
"""The allowance for a late poll; a tick that must be decided within it is not deferred."""


class RecoveryWindow:
    """Tracks the recovery window.

    The window is also open right after joining, since this process could not see the store before.
    """

    __slots__ = ("_until", "away")

    def __init__(self) -> None:
        self.away: bool = True
        self._until: Span = 0

    def failed(self) -> None:
        """Record that a call failed."""
        self.away = True

    def answered(self, boot: Span) -> None:
        """Record that a call succeeded at the instant *boot* of the boot clock."""
        if self.away:
            self.away, self._until = False, boot + RECOVERY_WINDOW

    def is_open(self, boot: Span) -> bool:
        """Return whether results of runs may still be unrecorded."""
        return self.away or boot < self._until


def defer_skip(definition: TaskDefinition, decided: Plan, *, now: Instant) -> bool:
    """Return whether a plan with a skip is discarded during recovery, to be made again later."""
    if decided.skipped is None:
        return False
    following, grace = decided.cursor.next_fire, definition.grace_us
    if following is not None and following < now + MARGIN:
        return False
    if grace is None:
        return True
    tick, partition = decided.skipped.oldest, decided.cursor.partition
    due_at = tick + jitter_of(definition, tick, anchor=tick, partition=partition)
    return now + MARGIN - due_at <= grace


def recheck_at(now: Instant, next_wakeup: Instant | None) -> Instant:
    """Return when to poll again after a tick was deferred; *next_wakeup* is the next other work."""
    again = now + RECHECK_AFTER
    return again if next_wakeup is None else min(again, next_wakeup)
