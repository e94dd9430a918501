"""Claiming: looks that reserve what is due, the planner, and one write that compares versions."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import SECOND, Instant, Span
from pulse.planner import Passed, due_at, plan
from pulse.run import Claim, Outcome, Run, run_id
from pulse.store.base import Unplanned
from pulse.store.decide import passed_run, plan_resumed, waiting_run
from pulse.store.redis.records import Row, Skip, row_of
from pulse.store.redis.server import Work
from pulse.store.redis.unheld import Found, judge_found
from pulse.store.redis.writing import Writing, opened, row_change, run_change, write
from pulse.store.steps import taken_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pulse.planner import Plan
    from pulse.store.base import Member
    from pulse.store.redis.server import Server
    from pulse.store.redis.writing import RowChange, Written
    from pulse.task import Definition

HOLD: Span = 2 * SECOND
"""How long rows are reserved for the process that plans them."""

PEEK = 100
"""How many rows a look considers that only asks whether there is work."""

WAITING = 100
"""How many runs that wait for others a look may find beside those that it can take."""


class Here(NamedTuple):
    """Who calls, and what with."""

    member: Member
    space: str
    definitions: Mapping[str, Definition]
    places: frozenset[str]
    config: str
    keep_runs: int


class Looking(Work, kw_only=True):
    """What `look.lua` is asked for."""

    holder: str
    look: str
    config: str
    places: Sequence[str]
    limit: int
    most: int
    peek: bool
    hold: Span = HOLD


class Looked(msgspec.Struct, frozen=True):
    """What one look found.

    Attributes:
        rows: records of rows that are due, each with the number of open runs.
        unheld: records of runs that are due, each with its row and the number of held runs.
        wake: when there is more to do; False for never.
        more: when the first row is due that was found beyond the limit; False where all fitted.

    """

    now: Instant
    rows: Sequence[tuple[str, int]]
    unheld: Sequence[tuple[str, str, int]]
    wake: Instant | bool
    more: Instant | bool


class Intent(NamedTuple):
    """A row that is due, as it was read, and what the planner says."""

    row: Row
    definition: Definition
    running: int
    plan: Plan

    def opens_held(self) -> bool:
        """Return whether a run begins with it."""
        return self.plan.opened is not None and not self.plan.opened.waits


class Reading(NamedTuple):
    """What was found to do, and when there is more.

    Attributes:
        now: the server's clock at the first look.
        unused: rows that were reserved and are left as they are.

    """

    now: Instant
    intents: Sequence[Intent]
    unheld: Found
    wake_at: Instant | None
    unplanned: Sequence[Unplanned]
    unused: Sequence[str]

    def is_work(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self.intents or self.unheld.taken or self.unheld.closed)


class Won(NamedTuple):
    """What the write won: see `pulse.store.base.Claimed`."""

    runs: Sequence[Run]
    passed: Sequence[Run]
    given_up: Sequence[Run]
    wake_at: Instant | None


_LOOKED = msgspec.msgpack.Decoder(Looked)
_looks = count(1)


class Reader:
    """Collects what is due, look by look, until there is as much as there is room for."""

    def __init__(self, server: Server, here: Here, limit: int) -> None:
        self._server = server
        self._here = here
        self._limit = limit
        self._room = limit
        self._look = str(next(_looks))
        self._unheld = Found((), (), None)
        self._intents: list[Intent] = []
        self._unplanned: list[Unplanned] = []
        self._unused: list[str] = []
        self._wake_at: Instant | None = None

    def read(self) -> Reading:
        """Return what is due and what the planner says, opening at most *limit* runs."""
        first = self._ask(self._limit + WAITING)
        now = first.now
        self._unheld = judge_found(self._here.definitions, first.unheld, self._limit, now)
        self._wake_at = earliest(self._wake_at, self._unheld.wake_at)
        self._room -= len(self._unheld.taken)
        looked = first
        while self._plan(looked, now) and self._room > 0:
            looked = self._ask(0)
        return Reading(
            now, self._intents, self._unheld, self._wake_at, self._unplanned, self._unused
        )

    def _ask(self, most: int) -> Looked:
        here = self._here
        looking = Looking(
            holder=here.member.holder,
            look=self._look,
            config=here.config,
            places=sorted(here.places),
            limit=max(self._room, 1) if self._limit > 0 else PEEK,
            most=most,
            peek=self._limit <= 0,
        )
        looked = self._server.run("look", looking, _LOOKED)
        self._wake_at = earliest(self._wake_at, instant_or_none(looked.wake))
        return looked

    def _plan(self, looked: Looked, now: Instant) -> bool:
        """Plan the rows of one look; return whether another one would find more."""
        rows = [(row_of(record), running) for record, running in looked.rows]
        rows.sort(key=lambda pair: (pair[0].due_at or 0, pair[0].order))
        for row, running in rows:
            intent = self._plan_row(row, running, now)
            if intent is None:
                self._unused.append(row.spot)
            elif self._room <= 0:
                self._unused.append(row.spot)
                self._wake_at = earliest(self._wake_at, row.due_at)
            else:
                self._intents.append(intent)
                self._room -= intent.opens_held()
        more = instant_or_none(looked.more)
        if more is None or (self._room > 0 and looked.rows and self._limit > 0):
            return more is not None
        self._wake_at = earliest(self._wake_at, more)
        return False

    def _plan_row(self, row: Row, running: int, now: Instant) -> Intent | None:
        definition = self._here.definitions.get(row.task)
        if definition is None or definition.digest != row.digest:
            return None
        running -= self._unheld.count_closed(row.spot)
        try:
            decided = plan_resumed(
                definition, row.cursor(), resumed_at=row.resumed_at, running=running, now=now
            )
        # One bad schedule must not keep the other tasks from being claimed.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._unplanned.append(Unplanned(row.task, error))
            return None
        return None if decided is None else Intent(row, definition, running, decided)


def instant_or_none(found: Instant | bool) -> Instant | None:  # noqa: FBT001 - what Lua has for none
    """Return an instant of a script's answer, in which False stands for none."""
    return None if found is False else found


def earliest(one: Instant | None, other: Instant | None) -> Instant | None:
    """Return the earlier of two instants, each of which may be none."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def release(server: Server, reading: Reading, *, peeked: bool) -> None:
    """Give back what was reserved for nothing; a look that only peeked reserved nothing."""
    if reading.unused and not peeked:
        write(server, Writing(lease=0, released=reading.unused))


def write_claims(server: Server, here: Here, reading: Reading) -> Won:
    """Open what nobody else has taken since the reading."""
    now, unheld, intents = reading.now, reading.unheld, reading.intents
    outcomes = [_outcome(here, intent, now) for intent in intents]
    taken = [taken_run(run, here.member.holder, now) for run in unheld.taken]
    runs = [run for outcome in outcomes for run in outcome.fresh]
    written = write(
        server,
        Writing(
            lease=here.member.lease_us,
            keep=here.keep_runs,
            closed=[run_change(*pair) for pair in unheld.closed],
            rows=[outcome.change for outcome in outcomes],
            runs=[
                run_change(was, run, room=here.definitions[run.task].at_once)
                for was, run in zip(unheld.taken, taken, strict=True)
            ],
            released=reading.unused,
            trimmed=_to_trim(runs, here.keep_runs),
        ),
    )
    return _won(reading, outcomes, taken, written)


class _Outcome(NamedTuple):
    """What an intent comes to: the change, the run that is then held, what does not run."""

    change: RowChange
    held: Run | None
    passed: Sequence[Run]
    fresh: Sequence[Run]
    next_work: Instant | None


def _won(
    reading: Reading, outcomes: Sequence[_Outcome], taken: Sequence[Run], written: Written
) -> Won:
    existing = frozenset(written.existing)
    kept = [one for one, done in zip(outcomes, written.rows, strict=True) if done]
    held = [one.held for one in kept if one.held is not None and one.held.id not in existing]
    closed = among([run for _, run in reading.unheld.closed], written.closed)
    missed = [run for run in closed if run.outcome is Outcome.MISSED]
    wake_at = reading.wake_at
    for instant in (*(one.next_work for one in kept), *map(instant_or_none, written.due)):
        wake_at = earliest(wake_at, instant)
    return Won(
        [*among(taken, written.runs), *held],
        [*missed, *(run for one in kept for run in one.passed)],
        [run for run in closed if run.outcome is not Outcome.MISSED],
        wake_at,
    )


def among(runs: Sequence[Run], done: Sequence[bool]) -> list[Run]:
    """Return the runs whose change was done."""
    return [run for run, was_done in zip(runs, done, strict=True) if was_done]


def _outcome(here: Here, intent: Intent, now: Instant) -> _Outcome:
    skip, passed, folds = _passed_of(here, intent)
    run = _opened_run(here, intent, now)
    if run is not None:
        skip = None
    fresh = passed[:-1] if folds else list(passed)
    fresh += [] if run is None else [run]
    cursor = intent.plan.cursor
    moved = intent.row.changed(
        next_fire=cursor.next_fire,
        due_at=due_at(cursor),
        floor=cursor.floor,
        resumed_at=None,
        skip=skip,
    )
    openings = [opened(one) for one in fresh]
    if folds:
        openings.append(opened(passed[-1], folds=True))
    change = row_change(moved, was=intent.row, runs=openings)
    held = run if run is not None and run.holder else None
    return _Outcome(change, held, passed, fresh, _next_work(intent, now))


def _passed_of(here: Here, intent: Intent) -> tuple[Skip | None, list[Run], bool]:
    """Return the skip that a next one may fold into, what does not run, and whether it folds."""
    row, decided = intent.row, intent.plan
    skip, passed = row.skip, list[Run]()
    if decided.missed is not None:
        skip = None
        passed.append(_passed_run(here, row, decided.missed, Outcome.MISSED))
    if decided.skipped is None:
        return skip, passed, False
    folds, skipped = skip is not None, decided.skipped
    if skip is not None:
        skipped = Passed(skip.oldest, skip.count + skipped.count, skip.reason)
    passed.append(_passed_run(here, row, skipped, Outcome.SKIPPED))
    return Skip(skipped.oldest, skipped.count, skipped.reason), passed, folds


def _passed_run(here: Here, row: Row, passed: Passed, outcome: Outcome) -> Run:
    return passed_run(here.space, row.task, place=row.place, passed=passed, outcome=outcome)


def _opened_run(here: Here, intent: Intent, now: Instant) -> Run | None:
    opening, row = intent.plan.opened, intent.row
    if opening is None:
        return None
    if opening.waits:
        return waiting_run(here.space, row.task, place=row.place, opened=opening, now=now)
    return Run(
        id=run_id(here.space, row.task, row.place, opening.slot),
        task=row.task,
        place=row.place,
        fire_time=opening.slot,
        slot=opening.slot,
        trigger=opening.trigger,
        holder=here.member.holder,
        claimed_at=now,
    )


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


def _to_trim(runs: Iterable[Run], keep: int) -> list[str]:
    """Return the tasks whose history is trimmed now.

    The ids of runs, which are random, decide: each task is trimmed once in so many runs, whichever
    processes open them, and nothing has to be counted.
    """
    every = max(1, min(64, keep // 16))
    return sorted({run.task for run in runs if int(run.id[:4], 16) % every == 0})


def claims_of(here: Here, runs: Iterable[Run], good_until: Span) -> list[Claim]:
    """Return the claims on *runs*, in order of fire time."""
    claims = [Claim(run, here.definitions[run.task], good_until) for run in runs]
    claims.sort(key=lambda claim: claim.run.fire_time)
    return claims
