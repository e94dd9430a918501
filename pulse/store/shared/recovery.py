"""Whether a store has just come back: who holds runs may not have told yet what ended meanwhile.

Whatever looks first after an outage finds runs open that have ended in it. A tick that is skipped
for one of those would be lost for no reason. So for as long as every process needs to look again
no tick is skipped: it waits, undecided, until there is room for it or that time is over. It waits
no longer than its grace, and it is decided before the next one comes: so it keeps its reason, and a
store that comes and goes puts nothing off for long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.planner import Plan
    from pulse.core.task import TaskDefinition

RECOVERY_WINDOW: Span = SECOND
"""Ends of runs are on record so soon after the store's return: each process tries as often."""

RECHECK_AFTER: Span = 100_000
"""A tick that waits for an end to be told is looked at again after so long."""

MARGIN: Span = 400_000
"""A process that wins nothing may look so much later; what ends sooner than that is not awaited."""


class RecoveryWindow:
    """Tells for how long no tick is to be skipped; who has just joined was away as well."""

    __slots__ = ("_until", "away")

    def __init__(self) -> None:
        self.away = True
        self._until: Span = 0

    def failed(self) -> None:
        """Take note that a call was not answered."""
        self.away = True

    def answered(self, boot: Span) -> None:
        """Take note that one was, at that instant of the boot clock."""
        if self.away:
            self.away, self._until = False, boot + RECOVERY_WINDOW

    def is_open(self, boot: Span) -> bool:
        """Return whether ends that belong before a decision may still be on their way."""
        return self.away or boot < self._until


def defer_skip(
    definition: TaskDefinition, decided: Plan, *, now: Instant, recovering: bool
) -> bool:
    """Return whether what was decided is not to be written yet."""
    if not recovering or decided.skipped is None:
        return False
    following, grace = decided.cursor.next_fire, definition.grace_us
    if following is not None and following < now + MARGIN:
        return False
    return grace is None or now + MARGIN - decided.skipped.oldest <= grace


def recheck_at(now: Instant, next_wakeup: Instant | None) -> Instant:
    """Return when to look again where something was put off, and *wake_at* was the next work."""
    again = now + RECHECK_AFTER
    return again if next_wakeup is None else min(again, next_wakeup)
