"""Reading what is due: looks that reserve rows, and the planner, which decides."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import SECOND, Instant, Span
from pulse.store.base import Unplanned
from pulse.store.redis.client import Work
from pulse.store.redis.codec import Row, row_of
from pulse.store.redis.pending_runs import Found, judge_found
from pulse.store.rules import plan_resumed
from pulse.store.shared.recovery import look_again_at, put_off

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pulse.core.planner import Plan
    from pulse.core.task import Definition
    from pulse.store.base import Member
    from pulse.store.redis.client import Server

HOLD: Span = SECOND // 2
"""How long rows are reserved for the process that plans them.

A look that was sent before an outage may be done after it, for a process that waits for it no more:
so long others wait then, and within a second ticks resume."""

PEEK = 100
"""How many rows a look considers that only asks whether there is work."""

WAITING = 100
"""How many runs that wait for others a look may find beside those that it can take."""


class Here(NamedTuple):
    """Who calls, and what with.

    Attributes:
        member: who it is.
        space: `pulse.config.name`.
        definitions: the tasks of its configuration.
        recall: makes the definition of a task that was added at run time of name and words.
        places: the places in which it takes part.
        config: the key of its configuration.
        keep_runs: about how many ended runs of each task are kept.

    """

    member: Member
    space: str
    definitions: Mapping[str, Definition]
    recall: Callable[[str, str], Definition]
    places: frozenset[str]
    config: str
    keep_runs: int

    def runs(self, row: Row) -> bool:
        """Return whether a row is this process's to run, as far as can be told without looking."""
        if row.words is not None:
            return True
        held = self.definitions.get(row.task)
        return held is not None and held.digest == row.digest

    def define(self, row: Row) -> Definition:
        """Return what this process calls for a row that is its to run.

        Raises:
            ConfigError: the row's words are beyond this release of pulse.

        """
        return self.definitions[row.task] if row.words is None else self.recall(row.task, row.words)


class Looking(Work, kw_only=True):
    """What `read_due.lua` is asked for."""

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
        rows: records of rows that are due, each with the numbers of open and of held runs.
        unheld: records of runs that are due, each with its row and the number of held runs.
        wake: when there is more to do; False for never.
        more: when the first row is due that was found beyond the limit; False where all fitted.

    """

    now: Instant
    rows: Sequence[tuple[str, int, int]]
    unheld: Sequence[tuple[str, str, int]]
    wake: Instant | bool
    more: Instant | bool


class Intent(NamedTuple):
    """A row that is due, as it was read, and what the planner says."""

    row: Row
    definition: Definition
    running: int
    held: int
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


_LOOKED = msgspec.msgpack.Decoder(Looked)
_looks = count(1)


class Reader:
    """Collects what is due, look by look, until there is as much as there is room for.

    While it is *patient* no tick is skipped: see `pulse.store.shared.recovery`.
    """

    def __init__(self, server: Server, here: Here, limit: int, *, patient: bool = False) -> None:
        self._server = server
        self._here = here
        self._limit = limit
        self._room = limit
        self._patient = patient
        self._look = str(next(_looks))
        self._unheld = Found((), (), {}, None)
        self._intents: list[Intent] = []
        self._unplanned: list[Unplanned] = []
        self._unused: list[str] = []
        self._wake_at: Instant | None = None

    def read(self) -> Reading:
        """Return what is due and what the planner says, opening at most *limit* runs."""
        first = self._ask(self._limit + WAITING)
        now = first.now
        self._unheld = judge_found(self._here, first.unheld, self._limit, now)
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
        looked = self._server.run("read_due", looking, _LOOKED)
        self._wake_at = earliest(self._wake_at, instant_or_none(looked.wake))
        return looked

    def _plan(self, looked: Looked, now: Instant) -> bool:
        """Plan the rows of one look; return whether another one would find more."""
        rows = [(row_of(record), running, held) for record, running, held in looked.rows]
        rows.sort(key=lambda found: (found[0].due_at or 0, found[0].order))
        for row, running, held in rows:
            intent = self._plan_row(row, running, held, now)
            if intent is None:
                self._unused.append(row.spot)
            elif put_off(intent.definition, intent.plan, now=now, patient=self._patient):
                self._unused.append(row.spot)
                self._wake_at = look_again_at(now, self._wake_at)
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

    def _plan_row(self, row: Row, running: int, held: int, now: Instant) -> Intent | None:
        if not self._here.runs(row):
            return None
        running -= self._unheld.count_closed(row.spot)
        held += self._unheld.count_taken(row.spot)
        try:
            definition = self._here.define(row)
            decided = plan_resumed(
                definition, row.cursor(), resumed_at=row.resumed_at, running=running, now=now
            )
        # One bad schedule, or one of a newer release, must keep no other task from being claimed.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._unplanned.append(Unplanned(row.task, error))
            return None
        return None if decided is None else Intent(row, definition, running, held, decided)


def instant_or_none(found: Instant | bool) -> Instant | None:  # noqa: FBT001 - what Lua has for none
    """Return an instant of a script's answer, in which False stands for none."""
    return None if found is False else found


def earliest(one: Instant | None, other: Instant | None) -> Instant | None:
    """Return the earlier of two instants, each of which may be none."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
