"""Syncs the rows of declared tasks: adds them, changes them, brings archived ones back.

`new_row`, `changed_row` and `returned_row` also serve tasks that are added at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.core.planner import due_at, first_cursor
from pulse.core.policies import Misfire, OnAbandoned, Scope
from pulse.core.run import Outcome, Trigger
from pulse.core.run_transitions import passed_run, unheld_run
from pulse.store.base import Synced
from pulse.store.redis.changes import opened, row_change, write_rows
from pulse.store.redis.codec import Row, spot_of
from pulse.store.redis.orphans import change_with_waiting
from pulse.store.redis.tasks import TRIES, new_orders, read_spots, too_busy
from pulse.store.reschedule import change_cursor, schedule_text
from pulse.store.rules import CONFIG, RUNTIME, new_run_id, place_of
from pulse.store.shared.manifests import mine, stands

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pulse.clock import Instant
    from pulse.core.planner import Cursor
    from pulse.core.run import Run
    from pulse.core.task import Definition
    from pulse.store.redis.changes import RowChange
    from pulse.store.redis.client import Server
    from pulse.store.redis.due import Here
    from pulse.store.redis.tasks import Found
    from pulse.store.shared.manifests import Standing


class Changed(NamedTuple):
    """A row with another definition, what makes it so, and the fire times that it misses."""

    row: Row
    change: RowChange
    missed: Sequence[Run]


class _Step(NamedTuple):
    """What becomes of a row, the change for it, and what is then to be told."""

    kind: str
    definition: Definition
    change: RowChange | None = None
    missed: Sequence[Run] = ()


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


def sync_rows(server: Server, here: Here, standing: Standing) -> Synced:
    """Make and change rows so that they say what stands, where this process holds it.

    A row that was added at run time makes way for what is declared under its name.
    """
    told: dict[str, set[str]] = {"added": set(), "changed": set(), "superseded": set()}
    taken: set[str] = set()
    passed: list[Run] = []
    left: Sequence[Definition] = list(here.definitions.values())
    for _ in range(TRIES):
        found = read_spots(server, sorted({spot for one in left for spot in _spots(here, one)}))
        taken |= {row.task for row in found.rows.values() if _is_added(row)}
        steps = [*_sync_steps(server, here, left, standing=standing, found=found)]
        steps.sort(key=lambda step: step.kind != "changed")  # what was missed comes first
        done, left = _write_steps(server, steps)
        for step in done:
            told.setdefault(step.kind, set()).add(step.definition.name)
            passed += step.missed
        if not left:
            return Synced(
                added=_in_order(here, told["added"]),
                changed=_in_order(here, told["changed"]),
                superseded=_in_order(here, told["superseded"]),
                taken=_in_order(here, taken),
                passed=passed,
            )
    raise too_busy(server)


def hides(here: Here, row: Row) -> bool:
    """Return whether a row was added under the name of a task that is declared elsewhere here."""
    declared = row.task in here.definitions
    return _is_added(row) and declared and mine(row, here.member, here.definitions) is None


def _spots(here: Here, one: Definition) -> set[str]:
    """Return the keys of its row, and of the one that may have been added under its name."""
    return {spot_of(one.name, place_of(one.scope, here.member)), spot_of(one.name, "")}


def _is_added(row: Row) -> bool:
    return row.source == RUNTIME and row.archived_at is None


def _in_order(here: Here, names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in here.definitions if name in names)


def _sync_steps(
    server: Server, here: Here, left: Iterable[Definition], *, standing: Standing, found: Found
) -> Iterator[_Step]:
    added: list[Definition] = []
    for one in left:
        row = found.rows.get(spot_of(one.name, place_of(one.scope, here.member)))
        if row is None:
            added.append(one)
        else:
            yield from _row_steps(row, here, one, standing=standing, found=found)
        if one.scope is not Scope.FLEET:
            yield from _way_steps(found.rows.get(spot_of(one.name, "")), here, one, found=found)
    for one, order in zip(added, new_orders(server, len(added)), strict=True):
        place, paused = place_of(one.scope, here.member), one.name in found.paused
        change = new_row(one, place, order=order, now=found.now, paused=paused)
        yield _Step("added", one, change)


def _row_steps(
    row: Row, here: Here, one: Definition, *, standing: Standing, found: Found
) -> Iterator[_Step]:
    if row.archived_at is not None:
        paused = one.name in found.paused
        yield _Step("added", one, returned_row(row, one, now=found.now, paused=paused))
    elif row.digest == one.digest and row.source != RUNTIME:
        return
    elif stands(standing, row, one):
        changed = changed_row(row, one, space=here.space, now=found.now)
        yield _Step("changed", one, changed.change, changed.missed)
    else:
        yield _Step("superseded", one)


def _way_steps(row: Row | None, here: Here, one: Definition, *, found: Found) -> Iterator[_Step]:
    """Put a row away that was added under the name of a task that is no task of the fleet."""
    if row is not None and hides(here, row):
        away = row.changed(archived_at=found.now)
        yield _Step("away", one, row_change(away, was=row))


def _write_steps(server: Server, steps: Sequence[_Step]) -> tuple[list[_Step], list[Definition]]:
    """Write; return the steps that are done, and what others have changed meanwhile."""
    new = [step.change for step in steps if step.change is not None and not step.change.was]
    known = [step.change for step in steps if step.change is not None and step.change.was]
    wrote = iter([*change_with_waiting(server, known), *write_rows(server, new)])
    done: list[_Step] = []
    refused: dict[str, Definition] = {}
    for step in steps:
        if step.change is None or next(wrote):
            done.append(step)
        else:
            refused[step.definition.name] = step.definition
    return done, list(refused.values())


def _startup(one: Definition, place: str, now: Instant) -> list[Run]:
    if not one.run_at_start:
        return []
    return [unheld_run(new_run_id(), one.name, place=place, trigger=Trigger.STARTUP, now=now)]


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
