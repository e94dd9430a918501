"""What commands print: findings, tables, and the text of instants, schedules and clock changes.

rich, the extra `cli`, draws the tables; no other module imports it.
"""

from __future__ import annotations

import io
import shutil
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from pulse.clock import SECOND, moment_of, rfc3339
from pulse.errors import missing_extra
from pulse.settings.converters import duration_text, instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.schedule.base import Schedule
    from pulse.simulation.clock_changes import ClockChange

WIDE = 160
"""The width of an output that is no terminal."""

_MINUTE = 60 * SECOND
_MOMENTS = frozenset({"at", "start", "end"})


class CommandOutput(NamedTuple):
    """The lines to print on stdout, and one sentence for each problem."""

    lines: list[str]
    problems: list[str]


class Column(NamedTuple):
    """The head of a column, and whether its cells are aligned to the right."""

    head: str
    right: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; a column in which all cells are empty is omitted.

    Raises:
        MissingExtraError: rich is not installed.

    """
    if find_spec("rich") is None:
        raise missing_extra("tables", "rich", "cli", otherwise="use --json")
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    kept = [n for n in range(len(columns)) if any(row[n] for row in cells)]
    rich_table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for n in kept:
        column = columns[n]
        rich_table.add_column(Text(column.head), justify="right" if column.right else "left")
    for row in cells:
        rich_table.add_row(*(Text(row[n]) for n in kept))
    text = io.StringIO()
    Console(file=text, width=_width(), color_system=None).print(rich_table)
    return [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]


def zone_of(schedule: Schedule) -> str:
    """Return the name of the time zone of a schedule."""
    return schedule.to_text().get("timezone", "UTC")


def shown_at(instant: Instant, zone: str) -> str:
    """Return an instant as text in a time zone, with its offset."""
    if zone == "UTC":
        return rfc3339(instant)
    try:
        return moment_of(instant).astimezone(ZoneInfo(zone)).isoformat()
    except OverflowError:  # within the first or last hours that datetime can represent
        return rfc3339(instant)


def shown_schedule(settings: Mapping[str, str], zone: str) -> str:
    """Return the settings of a schedule as text, with dates in a time zone."""
    return ", ".join(
        f"{name} = {shown_at(instant(value), zone) if name in _MOMENTS else value}"
        for name, value in settings.items()
    )


def shown_offset(offset: Span) -> str:
    """Return an offset from UTC as text such as `+05:30`."""
    hours, minutes = divmod(abs(offset) // _MINUTE, 60)
    return f"{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"


def shown_change(change: ClockChange) -> str:
    """Return a sentence about a clock change."""
    step = change.after_us - change.before_us
    direction = "forward" if step > 0 else "back"
    before, after = shown_offset(change.before_us), shown_offset(change.after_us)
    length = duration_text(abs(step))
    return f"the clocks of {change.zone} are set {direction} by {length}, from {before} to {after}"


def _width() -> int:
    closed = sys.stdout is None  # as a shell's `>&-` leaves it
    return WIDE if closed or not sys.stdout.isatty() else shutil.get_terminal_size().columns
