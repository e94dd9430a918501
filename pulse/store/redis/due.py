"""Reading what is due: looks that reserve rows, and the planner, which decides."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import SECOND, Instant, Span
from pulse.store.base import FailedTask
from pulse.store.redis.client import ServerCall
from pulse.store.redis.codec import RedisTaskRow, row_of
from pulse.store.redis.pending_runs import RedisPendingSelection, select_pending
from pulse.store.rules import plan_resumed
from pulse.store.shared.recovery import defer_skip, recheck_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pulse.core.planner import Plan
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member
    from pulse.store.redis.client import RedisClient

HOLD: Span = SECOND // 2
"""How long rows are reserved for the process that plans them.

A look that was sent before an outage may be done after it, for a process that waits for it no more:
so long others wait then, and within a second ticks resume."""

PEEK = 100
"""How many rows a look considers that only asks whether there is work."""

WAITING = 100
"""How many runs that wait for others a look may find beside those that it can take."""


class RedisCaller(NamedTuple):
    """Who calls, and what with.

    Attributes:
        member: who it is.
        space: `pulse.config.name`.
        definitions: the tasks of its configuration.
        load_task: makes the definition of a task that was added at run time of name and words.
        partitions: the places in which it takes part.
        manifest: the key of its configuration.
        keep_runs: about how many ended runs of each task are kept.

    """

    member: Member
    space: str
    definitions: Mapping[str, TaskDefinition]
    load_task: Callable[[str, str], TaskDefinition]
    partitions: frozenset[str]
    manifest: str
    keep_runs: int

    def may_run(self, row: RedisTaskRow) -> bool:
        """Return whether a row is this process's to run, as far as can be told without looking."""
        if row.task_json is not None:
            return True
        held = self.definitions.get(row.task)
        return held is not None and held.digest == row.digest

    def define(self, row: RedisTaskRow) -> TaskDefinition:
        """Return what this process calls for a row that is its to run.

        Raises:
            ConfigError: the row's words are beyond this release of pulse.

        """
        return (
            self.definitions[row.task]
            if row.task_json is None
            else self.load_task(row.task, row.task_json)
        )


class DueRequest(ServerCall, kw_only=True):
    """What `read_due.lua` is asked for."""

    holder: str
    look: str
    config: str
    partitions: Sequence[str]
    limit: int
    most: int
    peek: bool
    hold: Span = HOLD


class DueReply(msgspec.Struct, frozen=True):
    """What one look found.

    Attributes:
        rows: records of rows that are due, each with the numbers of open and of held runs.
        pending: records of runs that are due, each with its row and the number of held runs.
        wake: when there is more to do; False for never.
        more: when the first row is due that was found beyond the limit; False where all fitted.

    """

    now: Instant
    rows: Sequence[tuple[str, int, int]]
    pending: Sequence[tuple[str, str, int]]
    wake: Instant | bool
    more: Instant | bool


class PlannedRow(NamedTuple):
    """A row that is due, as it was read, and what the planner says."""

    row: RedisTaskRow
    definition: TaskDefinition
    unfinished: int
    claimed: int
    plan: Plan

    def opens_claimed_run(self) -> bool:
        """Return whether a run begins with it."""
        return self.plan.opened is not None and not self.plan.opened.waits


class RedisClaimPlan(NamedTuple):
    """What was found to do, and when there is more.

    Attributes:
        now: the server's clock at the first look.
        unused: rows that were reserved and are left as they are.

    """

    now: Instant
    tasks: Sequence[PlannedRow]
    pending: RedisPendingSelection
    next_wakeup: Instant | None
    failed_tasks: Sequence[FailedTask]
    unused: Sequence[str]

    def is_work(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self.tasks or self.pending.selected or self.pending.closed)


_LOOKED = msgspec.msgpack.Decoder(DueReply)
_looks = count(1)


class DueReader:
    """Collects what is due, look by look, until there is as much as there is room for.

    While it is *patient* no tick is skipped: see `pulse.store.shared.recovery`.
    """

    def __init__(
        self, server: RedisClient, caller: RedisCaller, limit: int, *, recovering: bool = False
    ) -> None:
        self._server = server
        self._caller = caller
        self._limit = limit
        self._room = limit
        self._patient = recovering
        self._look = str(next(_looks))
        self._pending = RedisPendingSelection((), (), {}, None)
        self._intents: list[PlannedRow] = []
        self._unplanned: list[FailedTask] = []
        self._unused: list[str] = []
        self._next_wakeup: Instant | None = None

    def read(self) -> RedisClaimPlan:
        """Return what is due and what the planner says, opening at most *limit* runs."""
        first = self._ask(self._limit + WAITING)
        now = first.now
        self._pending = select_pending(self._caller, first.pending, self._limit, now)
        self._next_wakeup = earliest(self._next_wakeup, self._pending.next_wakeup)
        self._room -= len(self._pending.selected)
        reply = first
        while self._plan(reply, now) and self._room > 0:
            reply = self._ask(0)
        return RedisClaimPlan(
            now, self._intents, self._pending, self._next_wakeup, self._unplanned, self._unused
        )

    def _ask(self, most: int) -> DueReply:
        caller = self._caller
        looking = DueRequest(
            holder=caller.member.holder,
            look=self._look,
            config=caller.manifest,
            partitions=sorted(caller.partitions),
            limit=max(self._room, 1) if self._limit > 0 else PEEK,
            most=most,
            peek=self._limit <= 0,
        )
        reply = self._server.run("read_due", looking, _LOOKED)
        self._next_wakeup = earliest(self._next_wakeup, instant_or_none(reply.wake))
        return reply

    def _plan(self, reply: DueReply, now: Instant) -> bool:
        """Plan the rows of one look; return whether another one would find more."""
        rows = [(row_of(record), unfinished, held) for record, unfinished, held in reply.rows]
        rows.sort(key=lambda found: (found[0].due_at or 0, found[0].order))
        for row, unfinished, held in rows:
            planned = self._plan_row(row, unfinished, held, now)
            if planned is None:
                self._unused.append(row.task_key)
            elif defer_skip(planned.definition, planned.plan, now=now, recovering=self._patient):
                self._unused.append(row.task_key)
                self._next_wakeup = recheck_at(now, self._next_wakeup)
            elif self._room <= 0:
                self._unused.append(row.task_key)
                self._next_wakeup = earliest(self._next_wakeup, row.due_at)
            else:
                self._intents.append(planned)
                self._room -= planned.opens_claimed_run()
        more = instant_or_none(reply.more)
        if more is None or (self._room > 0 and reply.rows and self._limit > 0):
            return more is not None
        self._next_wakeup = earliest(self._next_wakeup, more)
        return False

    def _plan_row(
        self, row: RedisTaskRow, unfinished: int, held: int, now: Instant
    ) -> PlannedRow | None:
        if not self._caller.may_run(row):
            return None
        unfinished -= self._pending.count_closed(row.task_key)
        held += self._pending.count_selected(row.task_key)
        try:
            definition = self._caller.define(row)
            decided = plan_resumed(
                definition, row.cursor(), resumed_at=row.resumed_at, unfinished=unfinished, now=now
            )
        # One bad schedule, or one of a newer release, must keep no other task from being claimed.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._unplanned.append(FailedTask(row.task, error))
            return None
        return None if decided is None else PlannedRow(row, definition, unfinished, held, decided)


def instant_or_none(found: Instant | bool) -> Instant | None:  # noqa: FBT001 - what Lua has for none
    """Return an instant of a script's answer, in which False stands for none."""
    return None if found is False else found


def earliest(one: Instant | None, other: Instant | None) -> Instant | None:
    """Return the earlier of two instants, each of which may be none."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
