"""Rows as definitions make them: new, changed, brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.planner import due_at, first_cursor
from pulse.policy import Misfire, OnAbandoned
from pulse.run import Outcome, Trigger
from pulse.store.changes import change_cursor, schedule_text
from pulse.store.decide import CONFIG, RUNTIME, passed_run, unheld_run
from pulse.store.redis.records import Row
from pulse.store.redis.writing import opened, row_change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.clock import Instant
    from pulse.planner import Cursor
    from pulse.run import Run
    from pulse.store.redis.writing import RowChange
    from pulse.task import Definition


def new_row(
    one: Definition,
    place: str,
    *,
    order: int,
    now: Instant,
    paused: bool,
    words: str | None = None,
) -> RowChange:
    """Return what adds a row for a task that is seen for the first time, with its start-up run."""
    row = _row(one, place, order=order, cursor=first_cursor(one, now), version=1, words=words)
    row = msgspec.structs.replace(row, paused=paused)
    return row_change(row, was=None, runs=map(opened, _startup(one, place, now)))


def returned_row(
    was: Row, one: Definition, *, now: Instant, paused: bool, words: str | None = None
) -> RowChange:
    """Return what brings a task back as a new one, but for the floor: no tick runs twice."""
    cursor = first_cursor(one, now, floor=was.floor)
    row = _changed(was, one, cursor, words)
    row = msgspec.structs.replace(row, paused=paused)
    startup = map(opened, _startup(one, was.place, now))
    return row_change(row, was=was, runs=startup, returned=True)


class Changed(NamedTuple):
    """A row with another definition, what makes it so, and the fire times that it misses."""

    row: Row
    change: RowChange
    missed: Sequence[Run]


def changed_row(
    was: Row, one: Definition, *, space: str, now: Instant, words: str | None = None
) -> Changed:
    """Return a row with another definition; its cursor moves only with its schedule."""
    cursor, missed = change_cursor(
        one, was.cursor(), before=was.schedule, paused=was.paused, now=now
    )
    row = _changed(was, one, cursor, words)
    row = msgspec.structs.replace(row, paused=was.paused, resumed_at=was.resumed_at, skip=was.skip)
    if missed is None:
        return Changed(row, row_change(row, was=was), ())
    row = msgspec.structs.replace(row, skip=None)
    run = passed_run(space, was.task, place=was.place, passed=missed, outcome=Outcome.MISSED)
    return Changed(row, row_change(row, was=was, runs=[opened(run)]), [run])


def _startup(one: Definition, place: str, now: Instant) -> list[Run]:
    if not one.run_at_start:
        return []
    return [unheld_run(one.name, place=place, trigger=Trigger.STARTUP, now=now)]


def _changed(was: Row, one: Definition, cursor: Cursor, words: str | None) -> Row:
    version = was.version + 1
    return _row(one, was.place, order=was.order, cursor=cursor, version=version, words=words)


def _row(
    one: Definition, place: str, *, order: int, cursor: Cursor, version: int, words: str | None
) -> Row:
    return Row(
        version=version,
        digest=one.digest,
        at_once=one.at_once,
        parks=one.misfire is Misfire.ALL and one.grace_us is None,
        source=CONFIG if words is None else RUNTIME,
        task=one.name,
        place=place,
        scope=one.scope.value,
        schedule=schedule_text(one.schedule),
        room=one.room,
        rerun=one.on_abandoned is OnAbandoned.RERUN,
        anchor=cursor.anchor,
        next_fire=cursor.next_fire,
        due_at=due_at(cursor),
        floor=cursor.floor,
        order=order,
        words=words,
    )
