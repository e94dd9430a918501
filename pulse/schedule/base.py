"""The interface of schedules: the pure rule that returns the next fire time.

A schedule has no state. If its fire times depend on when the task was first seen, the caller
passes that instant as *anchor*. Rules that need no anchor ignore the argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from datetime import datetime

    from pulse.clock import Instant


class DueTimes(msgspec.Struct, frozen=True, gc=False):
    """The fire times between two instants, summarised: the newest fire time and the count."""

    newest: Instant
    count: int


class Schedule(Protocol):
    """Returns the fire times of a task in ascending order, without end or up to a last one."""

    def first(self, seen: Instant) -> Instant | None:
        """Return the first fire time of a task that is first seen at *seen*, its anchor."""

    def next_after(self, after: Instant, *, anchor: Instant) -> Instant | None:
        """Return the first fire time strictly later than *after*, or None when none is left."""

    def due(self, first: Instant, until: Instant, *, anchor: Instant) -> DueTimes:
        """Return the newest fire time in [first, until] and the number of fire times.

        *first* is a fire time and not later than *until*. Where the rule permits it, the cost does
        not grow with the count.
        """

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire time strictly later than the aware datetime *after*."""

    def to_text(self) -> dict[str, str]:
        """Return the settings that declare this schedule, in canonical form."""
