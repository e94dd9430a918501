"""The commands that read the store: tasks, runs, one run, the fleet, and the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.cli.answers import Answer, Listing
from pulse.cli.moments import moment_in, shown_second, zone_of_task, zones_of
from pulse.cli.target import name_hint
from pulse.clock import SystemClock, moment_of
from pulse.core.run_query import WENT_WRONG, state_of
from pulse.errors import UnknownRunError, UnknownTaskError, did_you_mean
from pulse.log.format import span_text, summary_text
from pulse.web.views import view_audit, view_member, view_pause, view_run, view_task

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pulse.core.run import Attempt, Run
    from pulse.handle.handle import SchedulerHandle
    from pulse.store.steering import MemberState, Pause, TaskState

ID_LENGTH = 32
SHOWN_ID = 10
"""How many digits of an id a table shows; `pulse show` and `pulse stop` accept them."""

SHORTEST_ID = 4
_SEARCHED = 10_000
_PAGE = 1_000
_LINE = 60


def tasks(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """List the tasks, or those of a name."""
    found = handle.overview()
    states = list(found.tasks)
    if options.task is not None:
        known = {state.name for state in states}
        states = [state for state in states if state.name == options.task]
        if not states:
            hint = did_you_mean(options.task, known)
            raise UnknownTaskError(f"expected the name of a task, got {options.task!r}{hint}")
    every = found.pause
    zones = zones_of(states, utc=options.utc)
    running = {(run.task, run.partition) for run in found.running}
    heads = ("task", "host", "schedule", "state", "next", "last", "ended", "failures")
    rows = [
        _task_row(
            state, zones[state.name], every, is_running=(state.name, state.partition) in running
        )
        for state in states
    ]
    empty = f"no tasks: no server with tasks has used this store yet{name_hint(options)}"
    sentences = [] if states else [empty]
    if states and not found.members:
        sentences.append(
            "no process serves these tasks: no server runs, or none can reach the store"
        )
    if every is not None:
        sentences.append(f"all tasks are {_pause_text(every, 'UTC')}")
    if options.task is not None:
        sentences += _settings_lines(states[0])
    document = {"tasks": [view_task(state) for state in states], "pause": view_pause(every)}
    spare = ("host", "ended")
    return Answer(document, [Listing(heads, rows, spare)] if rows else (), sentences)


def _task_row(
    state: TaskState, zone: str, every: Pause | None, *, is_running: bool
) -> tuple[str, ...]:
    schedule = ", ".join(
        f"{name} {value}" for name, value in state.schedule.items() if name != "timezone"
    )
    shown = "running" if is_running else "waiting" if state.unfinished else ""
    pause = every if every is not None else state.pause
    if state.paused or every is not None:
        until = None if pause is None else pause.until
        shown = "paused" if until is None else f"paused until {shown_second(until, zone)}"
    return (
        state.name,
        state.partition,
        f"{schedule} {state.schedule.get('timezone', '')}".strip(),
        shown,
        shown_second(state.next_fire, zone),
        state.last_outcome or "",
        shown_second(state.last_end, zone),
        f"{state.failures}" if state.failures else "",
    )


def _settings_lines(state: TaskState) -> list[str]:
    lines = [f"{name} = {value}" for name, value in state.settings.items()]
    if state.pause is not None:
        lines.append(_pause_text(state.pause, zone_of_task(state)))
    return lines


def _pause_text(pause: Pause, zone: str) -> str:
    parts = ["paused"]
    if pause.since is not None:
        parts.append(f"since {shown_second(pause.since, zone)}")
    if pause.until is not None:
        parts.append(f"until {shown_second(pause.until, zone)}")
    if pause.by:
        parts.append(f"by {pause.by}")
    return " ".join(parts) + (f": {pause.note}" if pause.note else "")


def runs(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """List the newest runs that all filters select."""
    states = list(handle.tasks())
    zones = zones_of(states, utc=options.utc)
    if options.task is not None and options.task not in zones:
        near = did_you_mean(options.task, zones)
        if not handle.runs(task=options.task, limit=1):
            raise UnknownTaskError(f"expected the name of a task, got {options.task!r}{near}")
    zone = zones.get(options.task, "UTC")
    found, cursor = _pages(
        handle,
        limit=options.limit,
        before=options.before,
        task=options.task,
        outcomes=options.outcome or (sorted(WENT_WRONG) if options.failed else None),
        trigger=options.trigger,
        holder=options.holder,
        since=_moment(options.since, zone),
        until=_moment(options.until, zone),
    )
    heads = ("fire time", "task", "state", "late", "took", "run", "by", "message")
    rows = [_run_row(run, zones.get(run.task, "UTC")) for run in found]
    sentences = [] if rows else ["no runs" + ("" if states else name_hint(options))]
    if cursor is not None and rows:
        sentences.append(f"older runs: --before {cursor}")
    document = {
        "runs": [view_run(run) for run in found],
        "cursor": None if cursor is None else str(cursor),
    }
    spare = ("by", "late")
    return Answer(document, [Listing(heads, rows, spare)] if rows else (), sentences)


def _moment(text: str | None, zone: str) -> datetime | None:
    return None if text is None else moment_of(moment_in(text, zone, now=SystemClock().wall()))


def _pages(
    handle: SchedulerHandle, *, limit: int, before: int | None, **filters: object
) -> tuple[list[Run], int | None]:
    """Return runs until there are enough: a page of the store may be short and not the last."""
    found: list[Run] = []
    while True:
        page = handle.runs(limit=limit - len(found), before=before, **filters)  # type: ignore[arg-type]
        found += page
        before = page.cursor
        if before is None or len(found) >= limit:
            return found, before


def _run_row(run: Run, zone: str) -> tuple[str, ...]:
    late = run.lateness_us
    text = summary_text(run)
    return (
        shown_second(run.fire_time, zone),
        run.task,
        state_of(run) + (f" x {run.count}" if run.count > 1 else ""),
        "" if late is None else span_text(max(late, 0)),
        "" if run.took_us is None else span_text(run.took_us),
        run.id[:SHOWN_ID],
        run.holder.rpartition(":")[0],
        text if len(text) <= _LINE else f"{text[: _LINE - 1]}…",
    )


def find_run(handle: SchedulerHandle, ident: str) -> Run:
    """Return the run of an id, or of the first digits of one.

    Raises:
        UnknownRunError: no such run, or several among the newest begin so.

    """
    if len(ident) >= ID_LENGTH or len(ident) < SHORTEST_ID:
        found = [run] if (run := handle.run(ident)) is not None else []
    else:
        found = _by_prefix(handle, ident)
    if len(found) != 1:
        several = f" begin {len(found)} runs: {', '.join(run.id for run in found)}" if found else ""
        short = f"; write at least {SHORTEST_ID} of its digits" if len(ident) < SHORTEST_ID else ""
        raise UnknownRunError(
            f"expected the id of a run that is kept, got {ident!r}"
            + (f", with which{several}" if several else short)
        )
    return found[0]


def _by_prefix(handle: SchedulerHandle, prefix: str) -> list[Run]:
    before: int | None = None
    found: list[Run] = []
    for _ in range(_SEARCHED // _PAGE):
        page = handle.runs(limit=_PAGE, before=before)
        found += [run for run in page if run.id.startswith(prefix)]
        before = page.cursor
        if before is None:
            break
    return found


def show_run(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """Show everything that is known about a run."""
    return answer_of_run(handle, find_run(handle, options.run), utc=options.utc)


def answer_of_run(
    handle: SchedulerHandle, run: Run, *, utc: bool = False, status: int = 0
) -> Answer:
    """Return everything that is known about a run."""
    zones = zones_of(handle.tasks(), utc=utc)
    lines = _run_lines(run, zones.get(run.task, "UTC"))
    return Answer({"run": view_run(run)}, (), lines, status)


def _run_lines(run: Run, zone: str) -> list[str]:
    late = run.lateness_us
    known = {
        "run": run.id,
        "task": run.task,
        "host": run.partition,
        "fire time": shown_second(run.fire_time, zone),
        "fire times": f"{run.count}" if run.count > 1 else "",
        "trigger": run.trigger.value,
        "state": state_of(run),
        "status": "" if run.status is None else f"{run.status}",
        "attempt": f"{run.attempt}" if run.attempt else "",
        "by": run.holder,
        "started": shown_second(run.started_at, zone),
        "late": "" if late is None else span_text(max(late, 0)),
        "took": "" if run.took_us is None else span_text(run.took_us),
        "next attempt": shown_second(run.retry_at, zone) if run.outcome is None else "",
    }
    width = max(map(len, known))
    lines = [f"{name:<{width}}  {value}" for name, value in known.items() if value]
    for one in run.attempts:
        at = shown_second(one.started_at, zone)
        lines.append(f"attempt {one.attempt}: {one.outcome.value} at {at}: {_reason_of(one)}")
    return [*lines, *run.message.rstrip().splitlines()]


def _reason_of(attempt: Attempt) -> str:
    """Return the status, or the error: of a traceback an attempt keeps the end."""
    if attempt.status is not None:
        return f"status {attempt.status}"
    lines = attempt.message.splitlines()
    return next((line for line in reversed(lines) if line[:1].strip()), "")


def fleet(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:  # noqa: ARG001 - one signature
    """List the processes that take part."""
    members = sorted(handle.members(), key=lambda one: (one.host, one.pid))
    heads = (
        "host", "pid", "mode", "server", "pulse", "slots", "lag", "clock", "last seen", "tasks",
    )  # fmt: skip
    digests = {digest: f"{n}" for n, digest in enumerate(_by_number(members), 1)}
    now = SystemClock().wall()
    rows = []
    for one in members:
        report = one.report
        rows.append(
            (
                one.host,
                f"{one.pid}",
                one.mode,
                "" if report is None else report.server,
                "" if report is None else report.version,
                "" if report is None else f"{report.used}/{report.slots}",
                "" if report is None else span_text(report.lag_us),
                "" if report is None else f"{report.offset_us / 1e6:+.3f} s",
                f"{span_text(max(now - one.seen_at, 0))} ago",
                f"set {digests[one.digest]}" if len(digests) > 1 else "",
            )
        )
    sentences = (
        [] if rows else ["no process takes part: no server runs, or none can reach the store"]
    )
    if len(digests) > 1:
        sentences.append("the processes declare different tasks, as in a rolling deploy")
    document = {"members": [view_member(one) for one in members]}
    spare = ("clock", "pulse", "server")
    return Answer(document, [Listing(heads, rows, spare)] if rows else (), sentences)


def _by_number(members: Sequence[MemberState]) -> list[str]:
    """Return the digests of the tasks that processes declare, the most frequent first."""
    digests = [one.digest for one in members]
    return sorted(set(digests), key=lambda one: (-digests.count(one), one))


def audit(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """List who asked for what, the newest first."""
    entries = handle.audit(before=options.before, limit=options.limit)
    zones: Mapping[str, str] = zones_of(handle.tasks(), utc=options.utc)
    rows = [
        (
            shown_second(one.at, zones.get(one.task, "UTC")),
            one.verb,
            one.task or "(all)",
            one.by,
            one.note,
            shown_second(one.until, zones.get(one.task, "UTC")),
            one.run[:SHOWN_ID],
        )
        for one in entries
    ]
    sentences = [] if rows else ["nothing was asked for in the last 90 days"]
    if len(entries) == options.limit:
        sentences.append(f"older entries: --before {entries[-1].number}")
    heads = ("at", "verb", "task", "by", "note", "until", "run")
    document = {"audit": [view_audit(one) for one in entries]}
    spare = ("until", "run")
    return Answer(document, [Listing(heads, rows, spare)] if rows else (), sentences)
