"""The command `pulse watch`: one live screen, with what needs attention first."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from pulse.cli.answers import Answer
from pulse.cli.moments import shown_second, zone_of_task, zones_of
from pulse.clock import SECOND, SystemClock
from pulse.core.run_query import WENT_WRONG, state_of
from pulse.errors import ConfigError, StoreError, missing_extra
from pulse.log.format import escape_control_characters, span_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pulse.clock import Clock, Instant, Span
    from pulse.core.run import Run
    from pulse.handle.handle import SchedulerHandle
    from pulse.store.steering import MemberState, Pause, TaskState

LATE: Span = 10 * SECOND
"""A task whose fire time has passed so long ago, and which is not running, is overdue."""

_GOOD, _BAD, _HEAD, _PLAIN, _MILD = "green", "red", "bold", "", "yellow"


class Line(NamedTuple):
    """A line of the screen and its style."""

    text: str
    style: str = _PLAIN


class Seen(NamedTuple):
    """What was read from the store at an instant."""

    at: Instant
    states: Sequence[TaskState]
    runs: Sequence[Run]
    members: Sequence[MemberState]
    pause: Pause | None = None


def watch(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """Show the screen until Ctrl-C."""
    if sys.stdout is None or not sys.stdout.isatty():
        raise ConfigError(["watch: expected a terminal, got none; use pulse tasks, with --json"])
    if find_spec("rich") is None:
        raise missing_extra("watch", "rich", "cli", otherwise="use pulse tasks")
    from rich.live import Live
    from rich.text import Text

    clock = SystemClock()
    seen: Seen | None = None
    with Live(auto_refresh=False, screen=True) as live:
        try:
            while True:
                problem = ""
                try:
                    seen = read(handle, clock)
                except StoreError as error:
                    problem = str(error)
                size = live.console.size
                lines = screen(seen, clock.wall(), size.width, size.height, problem=problem)
                live.update(Text("\n").join(Text(*line) for line in lines), refresh=True)
                clock.sleep(options.every)
        except KeyboardInterrupt:
            return Answer({})


def read(handle: SchedulerHandle, clock: Clock) -> Seen:
    """Return what the screen shows.

    Raises:
        StoreError: the store does not answer.

    """
    return Seen(
        clock.wall(),
        handle.tasks(),
        handle.runs(limit=50),
        handle.members(),
        handle.pause_of_all(),
    )


def screen(
    seen: Seen | None, now: Instant, width: int, height: int, *, problem: str = ""
) -> list[Line]:
    """Return the lines of the screen, each no longer than *width*, at most *height* of them."""
    lines = []
    if problem:
        age = "" if seen is None else f"; what follows is {span_text(now - seen.at)} old"
        lines.append(Line(f"the store is not reached{age}: {problem}", _BAD))
    if seen is not None:
        attention = needs_attention(seen)
        lines.append(_first_line(seen, attention, now))
        room = max(height - len(lines), 3)
        lines += _section("needs attention", attention, room // 2)
        room = max(height - len(lines), 3)
        lines += _section("next", _next_lines(seen, now), room // 2)
        lines += _section("last", _last_lines(seen), height - len(lines))
    return [Line(_cut(line.text, width), line.style) for line in lines[:height]]


def _cut(text: str, width: int) -> str:
    text = escape_control_characters(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _section(head: str, lines: Sequence[Line], room: int) -> list[Line]:
    """Return a head and as many lines as there is room for, with the number of the others."""
    if not lines or room <= 1:
        return []
    shown = list(lines)
    if len(lines) > room - 1:
        shown = [*lines[: room - 2], Line(f"  and {len(lines) - room + 2:,} more")]
    return [Line(head, _HEAD), *shown]


def _first_line(seen: Seen, attention: Sequence[Line], now: Instant) -> Line:
    number = len(seen.states)
    if not number:
        return Line("no tasks: no server with tasks has used this store yet", _MILD)
    if not seen.members:
        return Line(f"no process serves the {number:,} tasks", _BAD)
    waiting = [state for state in seen.states if state.next_fire is not None]
    following = min(waiting, key=lambda state: state.next_fire or 0, default=None)
    upcoming = ""
    if following is not None and following.next_fire is not None:
        upcoming = f" Next: {following.name} {_until(following.next_fire, now)}."
    if attention:
        return Line(f"{len(attention):,} of {number:,} tasks need attention.{upcoming}", _BAD)
    whose = "The only task is" if number == 1 else f"All {number:,} tasks"
    return Line(f"{whose} on time.{upcoming}", _GOOD)


def needs_attention(seen: Seen) -> list[Line]:
    """Return a line for each task that failed, is overdue or is paused, the worst first."""
    found: list[tuple[int, Line]] = []
    for state in seen.states:
        late = None if state.next_fire is None else seen.at - state.next_fire
        paused = state.paused or seen.pause is not None
        where = f"  {state.name}" + (f" on {state.partition}" if state.partition else "")
        if late is not None and late > LATE and not state.unfinished and not paused:
            found.append((0, Line(f"{where}: overdue by {_countdown(late)}", _BAD)))
        elif state.failures and state.last_outcome in WENT_WRONG:
            times = "" if state.failures == 1 else f" {state.failures} times in a row"
            found.append((1, Line(f"{where}: {state.last_outcome}{times}", _BAD)))
        elif paused:
            pause = state.pause or seen.pause
            by = f" by {pause.by}" if pause is not None and pause.by else ""
            note = f": {pause.note}" if pause is not None and pause.note else ""
            found.append((2, Line(f"{where}: paused{by}{note}", _MILD)))
    return [line for _, line in sorted(found, key=lambda pair: pair[0])]


def _next_lines(seen: Seen, now: Instant) -> list[Line]:
    waiting = sorted(
        (state.next_fire, state.name, zone_of_task(state))
        for state in seen.states
        if state.next_fire is not None and not state.paused
    )
    return [
        Line(
            f"  {_countdown(at - now) if at > now else 'due':>9}  {shown_second(at, zone)}  {name}"
        )
        for at, name, zone in waiting
    ]


def _until(at: Instant, now: Instant) -> str:
    return f"in {_countdown(at - now)}" if at > now else "is due"


def _countdown(span: Span) -> str:
    return span_text(span) if span >= 60 * SECOND else f"{span // SECOND} s"


def _last_lines(seen: Seen) -> list[Line]:
    zones = zones_of(seen.states)
    lines = []
    for run in seen.runs:
        state = state_of(run)
        took = "" if run.took_us is None else span_text(run.took_us)
        style = _BAD if state in WENT_WRONG else _GOOD if state == "succeeded" else _PLAIN
        at = shown_second(run.fire_time, zones.get(run.task, "UTC"))
        lines.append(Line(f"  {state:<11} {took:>9}  {at}  {run.task}", style))
    return lines
