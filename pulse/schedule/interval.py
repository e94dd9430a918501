"""The fixed grid: a fire time each so many seconds, counted from an anchor."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pulse.clock import SECOND, instant_of, moment_of, rfc3339
from pulse.schedule.base import Due
from pulse.settings.converters import duration, instant, spell_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from pulse.clock import Instant, Span


@final
class Interval:
    """A fire time each *every*, on a grid that never shifts.

    With *start* the first fire time is *start* itself. Without it the grid hangs on the anchor:
    the instant at which the store first saw the task, or the Unix epoch where there is no store.

    Args:
        every: seconds as a number, a duration such as `"1h30m"`, or a timedelta.
        start: an aware datetime, or RFC 3339 text.

    """

    __slots__ = ("every_us", "start_us")

    every_us: Span
    start_us: Instant | None

    def __init__(
        self, every: float | str | timedelta, *, start: datetime | str | None = None
    ) -> None:
        _set_every(self, duration(every))
        _set_start(self, None if start is None else instant(start))

    @classmethod
    def of(cls, every_us: Span, start_us: Instant | None) -> Interval:
        """Return the interval of values that are converted already."""
        made = cls.__new__(cls)
        _set_every(made, every_us)
        _set_start(made, start_us)
        return made

    def __setattr__(self, name: str, _: object) -> None:
        message = f"an Interval is frozen; {name} cannot be set"
        raise AttributeError(message)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Interval):
            return NotImplemented
        return (self.every_us, self.start_us) == (other.every_us, other.start_us)

    def __hash__(self) -> int:
        return hash((self.every_us, self.start_us))

    def __reduce__(self) -> tuple[Callable[[Span, Instant | None], Interval], tuple[object, ...]]:
        return Interval.of, (self.every_us, self.start_us)

    def __repr__(self) -> str:
        start = "" if self.start_us is None else f", start={rfc3339(self.start_us)!r}"
        seconds, rest = divmod(self.every_us, SECOND)
        return f"Interval({self.every_us / SECOND if rest else seconds}{start})"

    def next(self, after: datetime) -> datetime:
        """Return the first fire time strictly later than the aware datetime *after*, in its zone.

        Raises:
            BadValueError: *after* has no time zone.

        """
        fire_time = self.next_after(instant_of(after), anchor=0)
        return moment_of(fire_time).astimezone(after.tzinfo)

    def first(self, seen: Instant) -> Instant:
        """Return *start* or what follows it on the grid, else one interval after *seen*."""
        if self.start_us is None:
            return seen + self.every_us
        return self.next_after(seen - 1, anchor=seen)

    def next_after(self, after: Instant, *, anchor: Instant) -> Instant:
        """Return the first instant of the grid strictly later than *after*."""
        if self.start_us is None:
            base = anchor
        elif after < self.start_us:
            return self.start_us
        else:
            base = self.start_us
        return after + self.every_us - (after - base) % self.every_us

    def due(self, first: Instant, until: Instant, *, anchor: Instant) -> Due:  # noqa: ARG002 - first fixes the grid
        """Return the newest fire time in [first, until] and how many there are, in O(1)."""
        passed = (until - first) // self.every_us
        return Due(first + passed * self.every_us, passed + 1)

    def spell(self) -> dict[str, str]:
        """Return the settings `interval` and, where it was given, `start`."""
        words = {"interval": spell_span(self.every_us)}
        if self.start_us is not None:
            words["start"] = rfc3339(self.start_us)
        return words


# The slots' own setters: `object.__setattr__` by name costs three times as much.
_set_every: Callable[[Interval, Span], None] = vars(Interval)["every_us"].__set__
_set_start: Callable[[Interval, Instant | None], None] = vars(Interval)["start_us"].__set__
