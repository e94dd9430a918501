"""A clock that moves only when a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pulse.clock import instant_of
from pulse.errors import TravelError
from pulse.settings.converters import duration_or_zero

if TYPE_CHECKING:
    from datetime import timedelta

    from pulse.clock import Instant, Span

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


class FakeClock:
    """A `Clock` for tests: starts at *start*, and moves only by `forward` and `set_wall`."""

    __slots__ = ("_boot", "_wall")

    def __init__(self, start: datetime = NOON) -> None:
        self._wall = instant_of(start)
        self._boot = 1_000_000

    def wall(self) -> Instant:
        """Return the instant of the wall clock."""
        return self._wall

    def boot(self) -> Span:
        """Return the time of the boot clock, which only `forward` moves."""
        return self._boot

    def forward(self, length: float | str | timedelta) -> None:
        """Move the wall clock and the boot clock forward by *length*."""
        span = duration_or_zero(length)
        self._wall += span
        self._boot += span

    def sleep(self, span: Span) -> None:  # noqa: ARG002 - the interface's signature
        """Refuse: nobody would move the clock meanwhile.

        Raises:
            TravelError: always.

        """
        raise TravelError("expected time that moves, got virtual time: move the clock instead")

    def set_wall(self, moment: datetime) -> None:
        """Set the wall clock; the boot clock does not change."""
        self._wall = instant_of(moment)
