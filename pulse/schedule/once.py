"""A schedule with a single fire time."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pulse.clock import instant_of, moment_of, rfc3339
from pulse.schedule.base import DueTimes
from pulse.schedule.converters import UTC, instant_in, moment, zone

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pulse.clock import Instant


@final
class Once:
    """A single fire time, which may be earlier than the instant at which the task is first seen.

    Args:
        at: an aware datetime, RFC 3339 text, or a datetime or text without offset, which is read
            in *timezone*. A wall time that occurs twice is the first occurrence; a skipped wall
            time is the end of the gap.
        timezone: an IANA name such as `Europe/Berlin`.

    Raises:
        BadValueError: *at* is no date and time, or *timezone* does not exist.

    """

    __slots__ = ("at_us",)

    at_us: Instant

    def __init__(self, at: datetime | str, *, timezone: str = UTC) -> None:
        _set_at(self, instant_in(zone(timezone), moment(at)))

    @classmethod
    def of(cls, at_us: Instant) -> Once:
        """Return the schedule of an instant."""
        schedule = cls.__new__(cls)
        _set_at(schedule, at_us)
        return schedule

    def __setattr__(self, name: str, _: object) -> None:
        message = f"a Once is frozen; {name} cannot be set"
        raise AttributeError(message)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Once):
            return NotImplemented
        return self.at_us == other.at_us

    def __hash__(self) -> int:
        return hash(self.at_us)

    def __reduce__(self) -> tuple[Callable[[Instant], Once], tuple[Instant]]:
        return Once.of, (self.at_us,)

    def __repr__(self) -> str:
        return f"Once({rfc3339(self.at_us)!r})"

    def next(self, after: datetime) -> datetime | None:
        """Return the fire time in the zone of *after* if it is later than *after*, else None.

        Raises:
            BadValueError: *after* has no time zone.

        """
        fire_time = self.next_after(instant_of(after), anchor=0)
        return None if fire_time is None else moment_of(fire_time).astimezone(after.tzinfo)

    def first(self, seen: Instant) -> Instant:  # noqa: ARG002 - the misfire policy handles the past
        """Return the fire time, even if it is earlier than *seen*."""
        return self.at_us

    def next_after(self, after: Instant, *, anchor: Instant) -> Instant | None:  # noqa: ARG002 - a single fire time has no anchor
        """Return the fire time if it is later than *after*, else None."""
        return self.at_us if after < self.at_us else None

    def due(self, first: Instant, until: Instant, *, anchor: Instant) -> DueTimes:  # noqa: ARG002 - see next_after
        """Return the single fire time."""
        return DueTimes(first, 1)

    def to_text(self) -> dict[str, str]:
        """Return the setting `at`, in UTC."""
        return {"at": rfc3339(self.at_us)}


# The setter of the slot, as in Interval.
_set_at: Callable[[Once, Instant], None] = vars(Once)["at_us"].__set__
