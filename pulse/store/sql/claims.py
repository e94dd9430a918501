"""Claiming: one read that plans, then one short write that compares versions and commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pulse.core.planner import Cursor, due_at, plan
from pulse.core.run import Claim, Outcome, Run, run_id
from pulse.core.run_transitions import passed_run, waiting_run
from pulse.store.base import Unplanned
from pulse.store.rules import plan_resumed
from pulse.store.shared.recovery import look_again_at, put_off
from pulse.store.sql.database import Update
from pulse.store.sql.pending_runs import close_runs, sift_unheld, still_unheld, take_runs
from pulse.store.sql.runs import insert_runs, read_runs, trim_history

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.planner import Plan
    from pulse.core.task import Definition
    from pulse.store.sql.caller import Here
    from pulse.store.sql.database import Cell, Link, Look
    from pulse.store.sql.pending_runs import Found, Spot

_VERSIONS = (
    "SELECT key, version, due_at FROM @tasks WHERE key IN (?*) ORDER BY key FOR UPDATE SKIP LOCKED"
)
_HELD = "SELECT task, place FROM @runs WHERE outcome IS NULL AND holder <> '' AND task IN (?*)"
_EXISTING = "SELECT id FROM @runs WHERE id IN (?*)"
_MOVE = Update(
    "@tasks",
    sets=("next_fire", "due_at", "floor", "skip_id"),
    keys=("key",),
    also="resumed_at = NULL, version = version + 1",
)
_FOLD = Update("@runs", sets=("count",), keys=("id",))


class Intent(NamedTuple):
    """A row that is due, as it was read, and what the planner says."""

    key: int
    version: int
    due: Instant
    definition: Definition
    place: str
    skip_id: str | None
    running: int
    plan: Plan

    def opens_held(self) -> bool:
        """Return whether a run begins with it."""
        return self.plan.opened is not None and not self.plan.opened.waits


class Reading(NamedTuple):
    """What one look found to do, and when there is more."""

    now: Instant
    intents: Sequence[Intent]
    unheld: Found
    wake_at: Instant | None
    unplanned: Sequence[Unplanned]

    def is_work(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self.intents or self.unheld.taken or self.unheld.closed)


class Won(NamedTuple):
    """What the write won.

    Attributes:
        runs: those now held.
        passed: rows of fire times that do not run.
        given_up: runs that nobody retried in time.
        wake_at: the next instant of work.
        contested: whether others have taken something of it.

    """

    runs: Sequence[Run]
    passed: Sequence[Run]
    given_up: Sequence[Run]
    wake_at: Instant | None
    contested: bool


def plan_due(here: Here, look: Look, limit: int, *, patient: bool) -> Reading:
    """Return what is due and what the planner says, opening at most *limit* runs.

    While *patient* no tick is skipped: see `pulse.store.shared.recovery`.
    """
    now = look.now
    unheld = sift_unheld(here, look.unheld, now=now, limit=limit)
    intents: list[Intent] = []
    unplanned: list[Unplanned] = []
    room, wake_at = limit - len(unheld.taken), unheld.wake_at
    for row in _own_rows(here, look.due):
        intent = None if row[0] > now else _plan_row(here, row, now, unheld, unplanned)
        if intent is not None and put_off(intent.definition, intent.plan, now=now, patient=patient):
            wake_at = look_again_at(now, wake_at)
            continue
        if row[0] > now or (room <= 0 and intent is not None):
            wake_at = earliest(row[0], wake_at)
            break
        if intent is not None:
            intents.append(intent)
            room -= intent.opens_held()
    return Reading(now, intents, unheld, wake_at, unplanned)


def _own_rows(here: Here, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    return (row for row in rows if here.runs(row[2], row[4], row[11]))


def _plan_row(
    here: Here, row: tuple[Any, ...], now: Instant, unheld: Found, unplanned: list[Unplanned]
) -> Intent | None:
    due, key, task, place, _, anchor, next_fire, floor, *rest = row
    resumed_at, version, skip_id, words, running = rest
    running -= unheld.count_closed(task, place)
    cursor = Cursor(anchor, next_fire, floor, due - next_fire)
    try:
        definition = here.define(task, words)
        decided = plan_resumed(definition, cursor, resumed_at=resumed_at, running=running, now=now)
    # One bad schedule, or one of a newer release, must not keep the other tasks from being claimed.
    except Exception as error:  # noqa: BLE001 - the reason is above
        unplanned.append(Unplanned(task, error))
        return None
    if decided is None:
        return None
    return Intent(key, version, due, definition, place, skip_id, running, decided)


def earliest(one: Instant | None, other: Instant | None) -> Instant | None:
    """Return the earlier of two instants, each of which may be none."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def write_claims(
    link: Link, here: Here, reading: Reading, *, boot: Span, wary: bool = False
) -> Won:
    """Open what nobody else has taken since the reading.

    Args:
        link: the connection, inside a write.
        here: who claims.
        reading: what was due, and the plans.
        boot: the boot clock when the attempt began.
        wary: whether to look for runs that exist although their row's cursor says otherwise.

    """
    now = reading.now
    rows_now = _lock_rows(link, reading)
    unheld = still_unheld(link, reading.unheld, rows_now)
    intents, instants = _unmoved(reading.intents, rows_now, unheld.lost)
    skips = read_runs(link, [one.skip_id for one in intents if one.skip_id and one.plan.skipped])
    opened: list[Run] = []
    passed: list[Run] = []
    rows: list[Run] = []
    moves: list[tuple[Cell, ...]] = []
    for intent in intents:
        skip_id = _record(here, intent, skips, rows=rows, passed=passed)
        run = _opened(here, intent, now)
        if run is not None:
            skip_id = None
            rows.append(run)
            if run.holder:
                opened.append(run)
        cursor = intent.plan.cursor
        moves.append((cursor.next_fire, due_at(cursor), cursor.floor, skip_id, intent.key))
        instants.append(_next_work(intent, now))
    link.change(_MOVE, moves)
    link.change(_FOLD, [(run.count, run.id) for run in skips.values()])
    if wary:
        existing = {run_id for (run_id,) in link.among(_EXISTING, [run.id for run in rows])}
        rows = [run for run in rows if run.id not in existing]
        opened = [run for run in opened if run.id not in existing]
    insert_runs(link, rows, now=now, lease_us=here.member.lease_us, mark=boot)
    close_runs(link, unheld.closed)
    taken = take_runs(link, here, unheld.taken, now=now, boot=boot)
    trim_history(link, rows, keep=here.keep_runs)
    if _some_waits_for_nobody(link, intents):
        instants.append(now)
    wake_at = reading.wake_at
    for instant in instants:
        wake_at = earliest(wake_at, instant)
    missed = [run for run in unheld.closed if run.outcome is Outcome.MISSED]
    given_up = [run for run in unheld.closed if run.outcome is not Outcome.MISSED]
    contested = len(intents) < len(reading.intents)
    return Won([*taken, *opened], [*missed, *passed], given_up, wake_at, contested)


def _some_waits_for_nobody(link: Link, intents: Iterable[Intent]) -> bool:
    """Return whether a run was opened that waits for one that nobody holds either.

    That one is not due itself, as after the clock was set back: the next look may take the new one.
    """
    waiting = {
        (one.definition.name, one.place)
        for one in intents
        if one.plan.opened is not None and one.plan.opened.waits
    }
    held = link.among(_HELD, sorted(task for task, _ in waiting)) if waiting else ()
    return bool(waiting - {(task, place) for task, place in held})


def _next_work(intent: Intent, now: Instant) -> Instant | None:
    """Return when the row has work again; None while it waits for one of its runs to end."""
    moved = intent.plan.cursor
    due = due_at(moved)
    if due is None or due > now:
        return due
    running = intent.running + (intent.plan.opened is not None)
    try:
        waits = plan(intent.definition, moved, running, now) is None
    # The next look tells of it: what this one has won stands.
    except Exception:  # noqa: BLE001 - the reason is above
        waits = False
    return None if waits else due


def _lock_rows(link: Link, reading: Reading) -> dict[int, tuple[int, Instant | None]]:
    """Keep others from claiming; return version and instant of rows that nobody else claims."""
    keys = {one.key for one in reading.intents} | set(reading.unheld.keys.values())
    return {key: (version, due) for key, version, due in link.among(_VERSIONS, sorted(keys))}


def _unmoved(
    intents: Sequence[Intent],
    found: Mapping[int, tuple[int, Instant | None]],
    lost: frozenset[Spot],
) -> tuple[list[Intent], list[Instant | None]]:
    """Return the intents whose rows stand as they were read, and when the others are due.

    A plan that counted on a retry to be given up falls with it: somebody has taken it since.
    """
    kept: list[Intent] = []
    moved: list[Instant | None] = []
    for one in intents:
        version, due = found.get(one.key, (None, one.due))
        if version == one.version and (one.definition.name, one.place) not in lost:
            kept.append(one)
        else:
            moved.append(due)
    return kept, moved


def _opened(here: Here, intent: Intent, now: Instant) -> Run | None:
    opened = intent.plan.opened
    if opened is None:
        return None
    task = intent.definition.name
    if opened.waits:
        return waiting_run(here.space, task, place=intent.place, opened=opened, now=now)
    return Run(
        id=run_id(here.space, task, intent.place, opened.slot),
        task=task,
        place=intent.place,
        fire_time=opened.slot,
        slot=opened.slot,
        trigger=opened.trigger,
        holder=here.member.holder,
        claimed_at=now,
    )


def _record(
    here: Here, intent: Intent, skips: dict[str, Run], *, rows: list[Run], passed: list[Run]
) -> str | None:
    """Write down what is missed and skipped; return the skip that a next one may fold into.

    One that is folded goes on in *skips*, which are the runs that may be folded into.
    """
    decided, task, place = intent.plan, intent.definition.name, intent.place
    skip_id = intent.skip_id
    if decided.missed is not None:
        skip_id = None
        missed = passed_run(
            here.space, task, place=place, passed=decided.missed, outcome=Outcome.MISSED
        )
        rows.append(missed)
        passed.append(missed)
    if decided.skipped is not None:
        folded = None if skip_id is None else _fold(skips, skip_id, decided.skipped.count)
        skipped = folded or passed_run(
            here.space, task, place=place, passed=decided.skipped, outcome=Outcome.SKIPPED
        )
        if folded is None:
            rows.append(skipped)
        passed.append(skipped)
        skip_id = skipped.id
    return skip_id


def _fold(skips: dict[str, Run], skip_id: str, count: int) -> Run | None:
    run = skips.get(skip_id)
    if run is None:
        return None
    skips[skip_id] = msgspec.structs.replace(run, count=run.count + count)
    return skips[skip_id]


def claims_of(reading: Reading, runs: Iterable[Run], good_until: Span) -> list[Claim]:
    """Return the claims on *runs*, in order of fire time."""
    known = {one.definition.name: one.definition for one in reading.intents}
    known.update(reading.unheld.known)
    claims = [Claim(run, known[run.task], good_until) for run in runs]
    claims.sort(key=lambda claim: claim.run.fire_time)
    return claims
