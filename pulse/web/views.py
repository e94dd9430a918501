"""What JSON documents show of tasks, runs and processes: texts and seconds.

Instants are RFC 3339 texts in UTC, spans are seconds, and large integers are texts, so that any
reader of JSON keeps them exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import SECOND, rfc3339
from pulse.core.run_query import state_of

if TYPE_CHECKING:
    from pulse.accounting.ledger import Ledger
    from pulse.accounting.why import Explanation
    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.store.steering import AuditEntry, MemberState, Pause, TaskState


class PauseView(msgspec.Struct, frozen=True, kw_only=True):
    """A pause: since and until when, by whom and why."""

    since: str | None
    until: str | None
    by: str
    note: str


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a task; see `pulse.store.steering.TaskState`."""

    name: str
    partition: str
    source: str
    schedule: Mapping[str, str]
    settings: Mapping[str, str]
    pause: PauseView | None
    next_fire: str | None
    last_decided: str | None
    unfinished: int
    last_outcome: str | None
    last_end: str | None
    last_success: str | None
    failures: int


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was followed by another one."""

    attempt: int
    started_at: str | None
    took: float | None
    outcome: str
    status: int | None
    message: str


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run; see `pulse.core.run.Run`. The body of a manual trigger is not shown."""

    id: str
    task: str
    partition: str
    fire_time: str
    scheduled_for: str | None
    trigger: str
    state: str
    attempt: int
    holder: str
    claimed_at: str | None
    started_at: str | None
    late: float | None
    took: float | None
    status: int | None
    message: str
    count: int
    retry_at: str | None
    attempts: Sequence[AttemptView]


class MemberView(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the fleet; see `pulse.store.steering.MemberState`."""

    holder: str
    host: str
    pid: int
    mode: str
    digest: str
    lease: float
    seen_at: str
    version: str | None
    server: str | None
    slots: int | None
    used: int | None
    lag: float | None
    offset: float | None
    stops_runs: bool | None
    silent_broker: str | None


class AuditView(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the audit; see `pulse.store.steering.AuditEntry`."""

    number: str
    at: str
    verb: str
    task: str
    by: str
    note: str
    run: str
    until: str | None


class TickView(msgspec.Struct, frozen=True, kw_only=True):
    """A fire time in a partition."""

    fire_time: str
    partition: str


class DispatchView(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt whose run was dispatched by another process as well."""

    run: str
    fire_time: str | None
    attempt: int
    holder: str


class LedgerView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each fire time of a task; see `pulse.accounting.ledger.Ledger`."""

    task: str
    since: str
    until: str
    exact_since: str
    fire_times: int
    ran: int
    abandoned: int
    skipped: int
    missed: int
    paused: int
    stopped: int
    open: int
    unknown: int
    unexplained: int
    unexplained_ticks: Sequence[TickView]
    twice: Sequence[DispatchView]


class ExplanationView(msgspec.Struct, frozen=True, kw_only=True):
    """Why something ran at an instant, or nothing did; see `pulse.accounting.why.Explanation`."""

    task: str
    instant: str
    partition: str
    kind: str
    text: str
    run: RunView | None
    before: str | None
    after: str | None


def view_pause(pause: Pause | None) -> PauseView | None:
    """Return what is shown of a pause."""
    if pause is None:
        return None
    return PauseView(since=_at(pause.since), until=_at(pause.until), by=pause.by, note=pause.note)


def view_task(task: TaskState) -> TaskView:
    """Return what is shown of a row of a task."""
    return TaskView(
        name=task.name,
        partition=task.partition,
        source=task.source,
        schedule=task.schedule,
        settings=task.settings,
        pause=view_pause(task.pause),
        next_fire=_at(task.next_fire),
        last_decided=_at(task.last_decided),
        unfinished=task.unfinished,
        last_outcome=task.last_outcome,
        last_end=_at(task.last_end),
        last_success=_at(task.last_success),
        failures=task.failures,
    )


def view_run(run: Run) -> RunView:
    """Return what is shown of a run."""
    return RunView(
        id=run.id,
        task=run.task,
        partition=run.partition,
        fire_time=rfc3339(run.fire_time),
        scheduled_for=_at(run.scheduled_for),
        trigger=run.trigger,
        state=state_of(run),
        attempt=run.attempt,
        holder=run.holder,
        claimed_at=_at(run.claimed_at),
        started_at=_at(run.started_at),
        late=_seconds(run.lateness_us),
        took=_seconds(run.took_us),
        status=run.status,
        message=run.message,
        count=run.count,
        retry_at=_at(run.retry_at),
        attempts=[
            AttemptView(
                attempt=one.attempt,
                started_at=_at(one.started_at),
                took=_seconds(one.took_us),
                outcome=one.outcome,
                status=one.status,
                message=one.message,
            )
            for one in run.attempts
        ],
    )


def view_member(member: MemberState) -> MemberView:
    """Return what is shown of a process."""
    report = member.report
    return MemberView(
        holder=member.holder,
        host=member.host,
        pid=member.pid,
        mode=member.mode,
        digest=member.digest,
        lease=member.lease_us / SECOND,
        seen_at=rfc3339(member.seen_at),
        version=None if report is None else report.version,
        server=None if report is None else report.server,
        slots=None if report is None else report.slots,
        used=None if report is None else report.used,
        lag=None if report is None else report.lag_us / SECOND,
        offset=None if report is None else report.offset_us / SECOND,
        stops_runs=None if report is None else report.stops_runs,
        silent_broker=None if report is None else report.silent_broker,
    )


def view_audit(entry: AuditEntry) -> AuditView:
    """Return what is shown of an entry of the audit."""
    return AuditView(
        number=str(entry.number),
        at=rfc3339(entry.at),
        verb=entry.verb,
        task=entry.task,
        by=entry.by,
        note=entry.note,
        run=entry.run,
        until=_at(entry.until),
    )


def view_ledger(ledger: Ledger) -> LedgerView:
    """Return what is shown of a ledger."""
    return LedgerView(
        task=ledger.task,
        since=rfc3339(ledger.since),
        until=rfc3339(ledger.until),
        exact_since=rfc3339(ledger.exact_since),
        fire_times=ledger.fire_times,
        ran=ledger.ran,
        abandoned=ledger.abandoned,
        skipped=ledger.skipped,
        missed=ledger.missed,
        paused=ledger.paused,
        stopped=ledger.stopped,
        open=ledger.open,
        unknown=ledger.unknown,
        unexplained=ledger.unexplained,
        unexplained_ticks=[
            TickView(fire_time=rfc3339(one.fire_time), partition=one.partition)
            for one in ledger.unexplained_ticks
        ],
        twice=[
            DispatchView(
                run=one.run, fire_time=_at(one.fire_time), attempt=one.attempt, holder=one.holder
            )
            for one in ledger.twice
        ],
    )


def view_explanation(found: Explanation) -> ExplanationView:
    """Return what is shown of an explanation."""
    return ExplanationView(
        task=found.task,
        instant=rfc3339(found.instant),
        partition=found.partition,
        kind=found.kind,
        text=found.text,
        run=None if found.run is None else view_run(found.run),
        before=_at(found.before),
        after=_at(found.after),
    )


def _at(instant: Instant | None) -> str | None:
    return None if instant is None else rfc3339(instant)


def _seconds(span: Span | None) -> float | None:
    return None if span is None else span / SECOND
