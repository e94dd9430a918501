"""The port of schedules: the pure rule that gives the next fire time.

A schedule holds no state. Where its grid depends on when a task was first seen, the caller passes
that instant as *anchor*; rules that do not need it ignore it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from datetime import datetime

    from pulse.clock import Instant


class Due(msgspec.Struct, frozen=True, gc=False):
    """The fire times between two instants, summed up: the newest of them and how many."""

    newest: Instant
    count: int


class Schedule(Protocol):
    """Gives the fire times of a task, in rising order, without end or until it has none left."""

    def first(self, seen: Instant) -> Instant | None:
        """Return the first fire time of a task that is first seen at *seen*, its anchor."""

    def next_after(self, after: Instant, *, anchor: Instant) -> Instant | None:
        """Return the first fire time strictly later than *after*, or None when none is left."""

    def due(self, first: Instant, until: Instant, *, anchor: Instant) -> Due:
        """Return the newest fire time in [first, until] and how many there are.

        *first* is a fire time and not later than *until*. The cost does not grow with the count
        for rules where that is possible.
        """

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire time strictly later than the aware datetime *after*."""

    def spell(self) -> dict[str, str]:
        """Return the settings that declare this schedule, in their canonical spelling."""
