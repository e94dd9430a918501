"""What every keeper decides alike: plans of rows that were paused, the runs they open, places."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from pulse.planner import Passed, Plan, cursor_at, plan
from pulse.policy import OnAbandoned, Scope
from pulse.run import Outcome, Run, Trigger, run_id

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.planner import Cursor
    from pulse.run import Result
    from pulse.store.base import Member
    from pulse.task import Definition


LEASE_OVER = "its holder did not renew the lease"
HOLDER_GONE = "its holder is gone"
UNWANTED = "no process wants the task any more"
"""Why a run was abandoned, in the words of its row."""


def place_of(scope: Scope, member: Member) -> str:
    """Return the place in which *member* takes part in tasks of that scope."""
    if scope is Scope.FLEET:
        return ""
    return member.host if scope is Scope.HOST else member.holder


def plan_resumed(
    definition: Definition,
    cursor: Cursor,
    *,
    resumed_at: Instant | None,
    running: int,
    now: Instant,
) -> Plan | None:
    """Return the plan of a row; fire times up to *resumed_at* passed in a pause and are missed."""
    first = cursor.next_fire
    until = None if resumed_at is None else min(resumed_at, now)
    if until is None or first is None or not cursor.floor < first <= until:
        return plan(definition, cursor, running, now)
    due = definition.schedule.due(first, until, anchor=cursor.anchor)
    following = definition.schedule.next_after(due.newest, anchor=cursor.anchor)
    moved = cursor_at(definition, cursor.anchor, following, floor=due.newest)
    return Plan(moved, missed=Passed(first, due.count))


def passed_run(space: str, task: str, *, place: str, passed: Passed, outcome: Outcome) -> Run:
    """Return the record of fire times that were missed or skipped."""
    return Run(
        id=run_id(space, task, place, passed.oldest),
        task=task,
        place=place,
        fire_time=passed.oldest,
        slot=passed.oldest,
        attempt=0,
        outcome=outcome,
        count=passed.count,
    )


def unheld_run(
    task: str, *, place: str, trigger: Trigger, now: Instant, body: bytes | None = None
) -> Run:
    """Return a run that nobody holds yet, due at once: a manual or a start-up run."""
    return Run(
        id=os.urandom(16).hex(),
        task=task,
        place=place,
        fire_time=now,
        trigger=trigger,
        attempt=0,
        retry_at=now,
        body=body,
    )


def ended_run(run: Run, result: Result) -> Run:
    """Return *run* as it stands after *result*."""
    return msgspec.structs.replace(
        run,
        outcome=result.outcome,
        started_at=result.started_at,
        took_us=result.took_us,
        status=result.status,
        message=result.message,
    )


def abandoned_run(run: Run, reason: str) -> Run:
    """Return *run* as a row that says that its holder is gone."""
    return msgspec.structs.replace(run, outcome=Outcome.ABANDONED, retry_at=None, message=reason)


def released_run(run: Run, now: Instant) -> Run:
    """Return *run* held by nobody and due at once, its attempt as it was."""
    return msgspec.structs.replace(run, holder="", claimed_at=None, retry_at=now)


def runs_again(outcome: Outcome, definition: Definition) -> bool:
    """Return whether a run that its own holder gave up is dispatched again."""
    return outcome is Outcome.ABANDONED and definition.on_abandoned is OnAbandoned.RERUN
