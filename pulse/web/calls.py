"""The calls of the API: each takes a request of its route, and returns a document."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from pulse.errors import UnknownRunError
from pulse.web.documents import (
    AuditPage,
    FleetDocument,
    LedgerDocument,
    PauseDocument,
    RunsPage,
    TaskDocument,
    TasksPage,
    WhyDocument,
)
from pulse.web.health import view_health
from pulse.web.responses import HttpError
from pulse.web.views import (
    view_audit,
    view_ledger,
    view_member,
    view_pause,
    view_task,
)

if TYPE_CHECKING:
    from pulse.handle.handle import SchedulerHandle
    from pulse.web import queries
    from pulse.web.documents import ShownOutput
    from pulse.web.health import HealthView
    from pulse.web.views import RunView

LONGEST_LEDGER = timedelta(days=31)


class Call(NamedTuple):
    """A request of a route, whose sender has the right for it.

    Attributes:
        handle: what it works on.
        output: what may be shown of runs.
        name: the part of the path that names a task or a run; empty without one.
        sent: the parameters or the body.
        who: who sends it, for the audit trail.
        key: the header `Idempotency-Key`; None without it.

    """

    handle: SchedulerHandle
    output: ShownOutput
    name: str
    sent: Any
    who: str
    key: str | None = None


def tasks(call: Call) -> TasksPage:
    """List the rows of tasks by name."""
    query: queries.TasksQuery = call.sent
    rows = [
        one
        for one in call.handle.tasks()
        if one.name > query.after and query.search.lower() in one.name.lower()
    ]
    names = sorted({one.name for one in rows})
    shown = set(names[: query.limit])
    return TasksPage(
        tasks=[view_task(one) for one in rows if one.name in shown],
        pause_of_all=view_pause(call.handle.pause_of_all()),
        next=names[query.limit - 1] if len(names) > query.limit else None,
    )


def task(call: Call) -> TaskDocument:
    """Show a task."""
    return TaskDocument(rows=[view_task(one) for one in call.handle.rows_of(call.name)])


def runs(call: Call) -> RunsPage:
    """List runs, and fire times that did not run, newest first."""
    query: queries.RunsQuery = call.sent
    page = call.handle.runs(
        task=query.task,
        outcomes=query.outcome,
        trigger=query.trigger,
        holder=query.holder,
        since=query.since,
        until=query.until,
        before=_number(query.before),
        limit=query.limit,
    )
    return RunsPage(
        runs=[call.output.view(one) for one in page],
        next=None if page.cursor is None else str(page.cursor),
    )


def run(call: Call) -> RunView:
    """Show a run."""
    found = call.handle.run(call.name)
    if found is None:
        raise UnknownRunError(f"expected the id of a run that is kept, got {call.name!r}")
    return call.output.view(found)


def fleet(call: Call) -> FleetDocument:
    """List the processes that take part."""
    return FleetDocument(processes=[view_member(one) for one in call.handle.members()])


def audit(call: Call) -> AuditPage:
    """List what was asked for, newest first."""
    query: queries.AuditQuery = call.sent
    found = call.handle.audit(before=_number(query.before), limit=query.limit + 1)
    entries = [view_audit(one) for one in found[: query.limit]]
    return AuditPage(entries=entries, next=entries[-1].number if len(found) > query.limit else None)


def why(call: Call) -> WhyDocument:
    """Explain what a task did at a time, or why it did nothing."""
    query: queries.WhyQuery = call.sent
    found = call.handle.why(query.task, query.at, within=query.within)
    return WhyDocument(explanations=[call.output.explanation(one) for one in found])


def ledger(call: Call) -> LedgerDocument:
    """Account for the fire times of a task."""
    query: queries.LedgerQuery = call.sent
    until = call.handle.now() if query.until is None else query.until
    if until - query.since > LONGEST_LEDGER:
        length = (until - query.since).days
        raise HttpError(400, f"since: expected at most 31 days before until, got {length} days")
    call.handle.task(query.task)
    (found,) = call.handle.ledger(query.task, since=query.since, until=query.until)
    return LedgerDocument(ledger=view_ledger(found))


def health(call: Call) -> HealthView:
    """Show whether the schedule is kept."""
    return view_health(call.handle.health())


def trigger(call: Call) -> RunView:
    """Run a task now, in addition to its schedule."""
    body: queries.TriggerBody = call.sent
    made = call.handle.trigger(call.name, body=body.body, by=call.who, key=call.key)
    if made is None:
        raise HttpError(
            409, f"{call.name}: refused, since a run is unfinished and overlap permits no other"
        )
    sent = None if body.body is None else body.body.encode()
    if made.body != sent:
        raise HttpError(
            422, "Idempotency-Key: expected the body that was sent with it first, got another one"
        )
    return call.output.view(made)


def pause(call: Call) -> PauseDocument:
    """Skip the fire times of a task."""
    body: queries.PauseBody = call.sent
    call.handle.pause(call.name, until=body.until, note=body.note, by=call.who)
    return PauseDocument(pause=view_pause(call.handle.task(call.name).pause))


def resume(call: Call) -> PauseDocument:
    """End the pause of a task."""
    call.handle.resume(call.name, by=call.who)
    return PauseDocument(pause=None)


def pause_all(call: Call) -> PauseDocument:
    """Skip the fire times of all tasks, also of later ones."""
    body: queries.PauseBody = call.sent
    call.handle.pause_all(until=body.until, note=body.note, by=call.who)
    return PauseDocument(pause=view_pause(call.handle.pause_of_all()))


def resume_all(call: Call) -> PauseDocument:
    """End the pause of all tasks."""
    call.handle.resume_all(by=call.who)
    return PauseDocument(pause=None)


def stop(call: Call) -> RunView:
    """Stop a run that waits or is in progress."""
    body: queries.StopBody = call.sent
    return call.output.view(call.handle.stop(call.name, note=body.note, by=call.who))


def _number(text: str | None) -> int | None:
    return None if text is None else min(int(text), 2**63 - 1)
