"""Fixed intervals: a fire time every N seconds, counted from an anchor."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pulse.clock import SECOND, instant_of, moment_of, rfc3339
from pulse.schedule.base import DueTimes
from pulse.settings.converters import duration, duration_text, instant

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from pulse.clock import Instant, Span


@final
class Interval:
    """A fire time every *every*; late or lost runs do not shift later fire times.

    With *start*, the first fire time is *start* itself. Without *start*, intervals are counted from
    the anchor: the instant at which the store first saw the task, or the Unix epoch if there is no
    store.

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
        """Return the interval of converted values."""
        schedule = cls.__new__(cls)
        _set_every(schedule, every_us)
        _set_start(schedule, start_us)
        return schedule

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
        """Return the first fire time from *seen* on; without a start, *seen* plus one interval."""
        if self.start_us is None:
            return seen + self.every_us
        return self.next_after(seen - 1, anchor=seen)

    def next_after(self, after: Instant, *, anchor: Instant) -> Instant:
        """Return the first fire time strictly later than *after*."""
        if self.start_us is None:
            base = anchor
        elif after < self.start_us:
            return self.start_us
        else:
            base = self.start_us
        return after + self.every_us - (after - base) % self.every_us

    def due(self, first: Instant, until: Instant, *, anchor: Instant) -> DueTimes:  # noqa: ARG002 - `first` replaces the anchor
        """Return the newest fire time in [first, until] and the number of fire times, in O(1)."""
        intervals = (until - first) // self.every_us
        return DueTimes(first + intervals * self.every_us, intervals + 1)

    def to_text(self) -> dict[str, str]:
        """Return the setting `interval`, and `start` if it is set."""
        settings = {"interval": duration_text(self.every_us)}
        if self.start_us is not None:
            settings["start"] = rfc3339(self.start_us)
        return settings


# The setters of the slots: `object.__setattr__` by name takes three times as long.
_set_every: Callable[[Interval, Span], None] = vars(Interval)["every_us"].__set__
_set_start: Callable[[Interval, Instant | None], None] = vars(Interval)["start_us"].__set__
