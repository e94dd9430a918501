"""Reads due rows, which reserves them, and plans them; see `read_due.lua`."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import SECOND, Instant, Span
from pulse.store.base import FailedTask
from pulse.store.redis.client import ScriptRequest
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

RESERVE_FOR: Span = SECOND // 2
"""How long rows are reserved for the process that plans them.

A request that was sent before an outage may be executed after it, for a process that no longer
waits for the reply. Other processes then wait for this long, so ticks resume within a second."""

PEEK = 100
"""How many rows are read when the caller can claim nothing and only asks for the next wake-up."""

WAITING = 100
"""How many pending runs that must wait are read in addition to those that can be claimed."""


class RedisCaller(NamedTuple):
    """The calling process and what it declares.

    Attributes:
        member: the process.
        space: the value of `pulse.config.name`, from which run ids are derived.
        definitions: the configured tasks, by name.
        load_task: builds the definition of a run-time task from its name and its settings as JSON.
        partitions: the partitions in which the process claims.
        manifest: the key of its manifest.
        keep_runs: about how many finished runs of each task are kept.

    """

    member: Member
    space: str
    definitions: Mapping[str, TaskDefinition]
    load_task: Callable[[str, str], TaskDefinition]
    partitions: frozenset[str]
    manifest: str
    keep_runs: int

    def may_run(self, row: RedisTaskRow) -> bool:
        """Return whether this process may claim runs of a row; it parses no settings."""
        if row.task_json is not None:
            return True
        declared = self.definitions.get(row.task)
        return declared is not None and declared.digest == row.digest

    def define(self, row: RedisTaskRow) -> TaskDefinition:
        """Return the definition for a row that this process may run.

        Raises:
            ConfigError: this release of pulse cannot read the settings of the run-time task.

        """
        return (
            self.definitions[row.task]
            if row.task_json is None
            else self.load_task(row.task, row.task_json)
        )


class DueRequest(ScriptRequest, kw_only=True):
    """The request of `read_due.lua`.

    Attributes:
        holder: the calling process.
        poll: identifies the poll, so that its own reservations are known.
        manifest: the key of the caller's manifest.
        partitions: where to read.
        limit: how many rows to reserve.
        pending_limit: how many pending runs to return.
        peek: whether nothing is reserved.
        reserve_for: how long the reservations last.

    """

    holder: str
    poll: str
    manifest: str
    partitions: Sequence[str]
    limit: int
    pending_limit: int
    peek: bool
    reserve_for: Span = RESERVE_FOR


class DueReply(msgspec.Struct, frozen=True):
    """The reply of `read_due.lua`.

    Attributes:
        now: the server's clock.
        rows: records of due rows, each with the numbers of unfinished and of claimed runs.
        pending: records of due pending runs, each with its row and the number of claimed runs.
        next_wakeup: when there is more to do; False for never.
        more: when the first row beyond the limit is due; False when all rows fitted.

    """

    now: Instant
    rows: Sequence[tuple[str, int, int]]
    pending: Sequence[tuple[str, str, int]]
    next_wakeup: Instant | bool
    more: Instant | bool


class PlannedRow(NamedTuple):
    """A due row as it was read, and its plan."""

    row: RedisTaskRow
    definition: TaskDefinition
    unfinished: int
    claimed: int
    plan: Plan

    def opens_claimed_run(self) -> bool:
        """Return whether the plan creates a run that is claimed at once."""
        return self.plan.opened is not None and not self.plan.opened.waits


class RedisClaimPlan(NamedTuple):
    """What one call of `claim_due` intends to write.

    Attributes:
        now: the server's clock at the first read.
        tasks: the rows to change, with their plans.
        pending: the pending runs to claim or to end.
        next_wakeup: when there is more to do; None for never.
        failed_tasks: tasks whose schedule raised.
        unused: row keys that were reserved and will not be changed.

    """

    now: Instant
    tasks: Sequence[PlannedRow]
    pending: RedisPendingSelection
    next_wakeup: Instant | None
    failed_tasks: Sequence[FailedTask]
    unused: Sequence[str]

    def has_work(self) -> bool:
        """Return whether the plan has anything to write."""
        return bool(self.tasks or self.pending.selected or self.pending.closed)


_DUE_REPLY = msgspec.msgpack.Decoder(DueReply)
_polls = count(1)


class DueReader:
    """Reads and plans due rows, in several reads if needed, until *limit* runs are planned.

    With *recovering*, no tick is skipped: see `pulse.store.shared.recovery`.
    """

    def __init__(
        self, server: RedisClient, caller: RedisCaller, limit: int, *, recovering: bool = False
    ) -> None:
        self._server = server
        self._caller = caller
        self._limit = limit
        self._remaining = limit
        self._recovering = recovering
        self._poll = str(next(_polls))
        self._pending = RedisPendingSelection((), (), {}, None)
        self._planned: list[PlannedRow] = []
        self._failed_tasks: list[FailedTask] = []
        self._unused: list[str] = []
        self._next_wakeup: Instant | None = None

    def read(self) -> RedisClaimPlan:
        """Return the plan of at most *limit* claims."""
        first = self._request(self._limit + WAITING)
        now = first.now
        self._pending = select_pending(self._caller, first.pending, self._limit, now)
        self._next_wakeup = earliest(self._next_wakeup, self._pending.next_wakeup)
        self._remaining -= len(self._pending.selected)
        reply = first
        while self._plan(reply, now) and self._remaining > 0:
            reply = self._request(0)
        return RedisClaimPlan(
            now, self._planned, self._pending, self._next_wakeup, self._failed_tasks, self._unused
        )

    def _request(self, pending_limit: int) -> DueReply:
        caller = self._caller
        request = DueRequest(
            holder=caller.member.holder,
            poll=self._poll,
            manifest=caller.manifest,
            partitions=sorted(caller.partitions),
            limit=max(self._remaining, 1) if self._limit > 0 else PEEK,
            pending_limit=pending_limit,
            peek=self._limit <= 0,
        )
        reply = self._server.run("read_due", request, _DUE_REPLY)
        self._next_wakeup = earliest(self._next_wakeup, instant_or_none(reply.next_wakeup))
        return reply

    def _plan(self, reply: DueReply, now: Instant) -> bool:
        """Plan the rows of one reply; return whether another read would find more."""
        rows = [(row_of(record), unfinished, claimed) for record, unfinished, claimed in reply.rows]
        rows.sort(key=lambda found: (found[0].due_at or 0, found[0].order))
        for row, unfinished, claimed in rows:
            planned = self._plan_row(row, unfinished, claimed, now)
            if planned is None:
                self._unused.append(row.task_key)
            elif defer_skip(planned.definition, planned.plan, now=now, recovering=self._recovering):
                self._unused.append(row.task_key)
                self._next_wakeup = recheck_at(now, self._next_wakeup)
            elif self._remaining <= 0:
                self._unused.append(row.task_key)
                self._next_wakeup = earliest(self._next_wakeup, row.due_at)
            else:
                self._planned.append(planned)
                self._remaining -= planned.opens_claimed_run()
        more = instant_or_none(reply.more)
        if more is None or (self._remaining > 0 and reply.rows and self._limit > 0):
            return more is not None
        self._next_wakeup = earliest(self._next_wakeup, more)
        return False

    def _plan_row(
        self, row: RedisTaskRow, unfinished: int, claimed: int, now: Instant
    ) -> PlannedRow | None:
        if not self._caller.may_run(row):
            return None
        # The write ends and claims pending runs before it changes the row.
        unfinished -= self._pending.count_closed(row.task_key)
        claimed += self._pending.count_selected(row.task_key)
        try:
            definition = self._caller.define(row)
            decided = plan_resumed(
                definition, row.cursor(), resumed_at=row.resumed_at, unfinished=unfinished, now=now
            )
        # One bad schedule, or one of a newer release, must keep no other task from being claimed.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._failed_tasks.append(FailedTask(row.task, error))
            return None
        return (
            None if decided is None else PlannedRow(row, definition, unfinished, claimed, decided)
        )


def instant_or_none(found: Instant | bool) -> Instant | None:  # noqa: FBT001 - as Lua encodes None
    """Return an instant of a script's reply; False becomes None."""
    return None if found is False else found


def earliest(one: Instant | None, other: Instant | None) -> Instant | None:
    """Return the earlier of two instants, each of which may be None."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
