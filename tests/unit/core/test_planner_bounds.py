"""Properties: `start`, `end`, `jitter`, `grace` and `misfire` keep each other's bounds."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pulse.clock import SECOND, moment_of
from pulse.core.cursor import due_at, first_cursor, jitter_of
from pulse.core.planner import is_too_late, plan
from pulse.core.task import Task, build_definition

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.planner import Plan
    from pulse.core.task import TaskDefinition

BORN = 1_700_000_000 * SECOND
MAX_TICKS = 40
FAR = 10**7 * SECOND
"""Longer than any list of fire times of these tests."""

PERIODS = {"interval": [1, 7, 60, 3_600], "cron": ["* * * * *", "*/7 * * * *", "*/5 * * * * *"]}
PERIODS["every"] = ["1 day", "2 weeks", "1 month"]
moments = st.none() | st.integers(-4_000, 4_000)


@st.composite
def definitions(draw: st.DrawFn) -> TaskDefinition:
    """Draw a task with every combination of the settings that bound each other."""
    kind = draw(st.sampled_from([*PERIODS, "at"]))
    settings: dict[str, object] = {
        "jitter": draw(st.sampled_from([0, 1, 30, 3_000, 10**6])),
        "grace": draw(st.sampled_from([None, 0, 1, 45, 10**6])),
        "misfire": draw(st.sampled_from(["latest", "skip", "all"])),
        "scope": draw(st.sampled_from(["fleet", "host", "process"])),
    }
    if kind == "at":
        return definition_of(at=moment(draw(st.integers(-4_000, 4_000))), **settings)
    start, end = draw(moments), draw(moments)
    assume(start is None or end is None or start <= end)
    for name, value in (("start", start), ("end", end)):
        settings[name] = None if value is None else moment(value)
    return definition_of(**{kind: draw(st.sampled_from(PERIODS[kind]))}, **settings)


def moment(second: int) -> str:
    """Return the text of an instant near the birth of the task."""
    return moment_of(BORN + second * SECOND).isoformat()


def definition_of(**settings: object) -> TaskDefinition:
    """Return the definition of a task."""
    given = {name: value for name, value in settings.items() if value is not None}
    return build_definition("work", Task(action="/work", **given))


def ticks_of(definition: TaskDefinition) -> list[Instant]:
    """Return the first fire times of a task that is first seen at `BORN`."""
    ticks: list[Instant] = []
    fire_time = definition.schedule.first(BORN)
    while fire_time is not None and len(ticks) < MAX_TICKS:
        ticks.append(fire_time)
        fire_time = definition.schedule.next_after(fire_time, anchor=BORN)
    return ticks


def delay(definition: TaskDefinition, tick: Instant, partition: str) -> Span:
    """Return the delay of a fire time in a partition."""
    return jitter_of(definition, tick, anchor=BORN, partition=partition)


partitions = st.sampled_from(["", "alpha", "alpha:4242:9"])


@given(definitions(), partitions)
def test_delay_of_each_tick_keeps_the_jitter_the_order_and_the_end(
    definition: TaskDefinition, partition: str
) -> None:
    """A tick is due before the next one, and not later than the end."""
    ticks = ticks_of(definition)
    due = [tick + delay(definition, tick, partition) for tick in ticks]
    end = getattr(definition.schedule, "end", None)

    assert all(
        0 <= at - tick < max(definition.jitter_us, 1) for tick, at in zip(ticks, due, strict=True)
    )
    assert all(at < tick for at, tick in zip(due, ticks[1:], strict=False))
    assert end is None or all(at <= end for at in due)


@given(
    definitions(),
    partitions,
    st.lists(st.integers(0, 10**9), min_size=1, max_size=12),
)
@example(definition_of(interval=60, jitter=10**6, grace=0, misfire="all"), "alpha", [1] * 5)
def test_plans_name_each_due_tick_once_within_all_bounds(
    definition: TaskDefinition, partition: str, waits: list[int]
) -> None:
    """Each tick is opened within its grace, or missed; none is opened outside start and end."""
    ticks = ticks_of(definition)
    known_until = ticks[-1] if len(ticks) == MAX_TICKS else BORN + FAR
    cursor = first_cursor(definition, BORN, partition=partition)
    named: list[Instant] = []
    now = BORN
    for wait in waits:
        now = min(now + wait * 37, known_until - 1)
        while (decided := plan(definition, cursor, 0, now)) is not None:
            named += named_by(definition, decided, ticks, now=now, partition=partition)
            cursor = decided.cursor
    due = [tick for tick in ticks if tick + delay(definition, tick, partition) <= now]

    assert named == due
    assert cursor.partition == partition


def named_by(
    definition: TaskDefinition, decided: Plan, ticks: list[Instant], *, now: Instant, partition: str
) -> list[Instant]:
    """Return the fire times that a plan names, in order; check the one that it opens."""
    grace, found = definition.grace_us, []
    if decided.missed is not None:
        first = ticks.index(decided.missed.oldest)
        found = ticks[first : first + decided.missed.count]
    if decided.opened is not None:
        tick = decided.opened.scheduled_for
        late = now - tick - delay(definition, tick, partition)
        assert late >= 0
        assert grace is None or late <= grace
        found = [*found, tick]
    return found


@given(definitions(), partitions)
def test_cursor_is_due_at_the_delay_of_its_tick(definition: TaskDefinition, partition: str) -> None:
    """The cursor of a partition has the delay of this partition."""
    cursor = first_cursor(definition, BORN, partition=partition)
    if cursor.next_fire is None:
        return

    assert due_at(cursor) == cursor.next_fire + delay(definition, cursor.next_fire, partition)


@given(definitions(), st.integers(0, 10**10))
def test_run_that_waited_keeps_the_grace_from_the_delay_of_its_tick(
    definition: TaskDefinition, late: int
) -> None:
    """A jitter that the next fire time or the end cuts short extends no grace."""
    grace = definition.grace_us
    for tick in ticks_of(definition)[:3]:
        due = tick + delay(definition, tick, "")
        assert is_too_late(definition, tick, due + late) is (grace is not None and late > grace)


@given(definitions())
def test_partitions_have_delays_of_their_own(definition: TaskDefinition) -> None:
    """A hundred processes do not start a tick together."""
    for tick in ticks_of(definition)[:1]:
        end = getattr(definition.schedule, "end", None)
        following = definition.schedule.next_after(tick, anchor=BORN)
        room = [definition.jitter_us]
        room += [bound - tick for bound in (end, following) if bound is not None]
        assume(min(room) >= SECOND)
        delays = {delay(definition, tick, f"host:{number}") for number in range(100)}
        assert len(delays) > 90
        assert max(delays) - min(delays) > min(room) // 2


def test_fleet_keeps_the_delays_of_earlier_releases() -> None:
    """Processes of two releases compute the same delay for `scope = fleet`."""
    definition = definition_of(interval=600, jitter=300)

    assert delay(definition, BORN, "") == 137_106_559


def test_stored_delay_of_a_cursor_holds_until_its_tick() -> None:
    """A row that an earlier release wrote keeps the instant at which its next tick is due."""
    definition = definition_of(interval=600, jitter=300, scope="process")
    fresh = first_cursor(definition, BORN, partition="alpha:1")
    stored = msgspec.structs.replace(fresh, delay_us=299 * SECOND)
    tick = BORN + 600 * SECOND

    assert plan(definition, stored, 0, tick + 299 * SECOND - 1) is None
    decided = plan(definition, stored, 0, tick + 299 * SECOND)
    assert decided is not None
    assert decided.opened is not None
    assert decided.opened.scheduled_for == tick


def test_delays_keep_their_order_over_many_ticks() -> None:
    """No tick is due before an earlier one, in any partition."""
    definition = definition_of(interval=7, jitter=10**6)
    due = [tick + delay(definition, tick, "alpha") for tick in ticks_of(definition)]

    assert all(one < other for one, other in pairwise(due))
