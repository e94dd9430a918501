"""Explains an instant of a task from what is on record: what ran, or why nothing did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice, pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from pulse.accounting.fire_times import valid_schedules
from pulse.accounting.ledger import (
    ABANDONED,
    MISSED,
    OPEN,
    PAUSED,
    RAN,
    SKIPPED,
    STOPPED,
    UNEXPLAINED,
    UNKNOWN,
    kind_of_run,
)
from pulse.clock import SECOND, Instant, Span, moment_of, rfc3339
from pulse.core.error_text import summary_line
from pulse.core.records import HOUR
from pulse.core.run import QUEUE_HOLDER, Outcome, Run
from pulse.core.run_query import ended_at
from pulse.core.run_transitions import NOT_TAKEN
from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.accounting.fire_times import ValidSchedule
    from pulse.core.records import PausedInterval, TaskRecords

NOT_A_FIRE_TIME, TOO_OLD = "not a fire time", "too old"
PROMPT: Span = SECOND
"""A run that starts so soon after its fire time is on time."""

_NEVER: Instant = 2**63

MAX_EXPLANATIONS = 500
"""How many fire times of a time are explained: the first ones."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why something ran at an instant, or why nothing did.

    Attributes:
        task: the name of the task.
        instant: what was asked for, or the fire time that was found there.
        kind: a kind of the ledger, such as `ran`, `missed` or `unexplained`; `not a fire time`; or
            `too old`.
        text: the explanation, one sentence a line.
        run: the run, or the record of what did not run.
        before: the last fire time before *instant*; None if none is on record.
        after: the first fire time after it; None for none.
        partition: the part of the fleet.

    """

    task: str
    instant: Instant
    kind: str
    text: str
    run: Run | None = None
    before: Instant | None = None
    after: Instant | None = None
    partition: str = ""


class RunIndex:
    """The kept runs of a task: by fire time, the records of what did not run, and what was going.

    Args:
        runs: all of them.

    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs

    def at(self, partition: str, tick: Instant) -> Run | None:
        """Return the run of a fire time."""
        return self._planned.get((partition, tick))

    @cached_property
    def _planned(self) -> dict[tuple[str, Instant], Run]:
        return {
            (one.partition, one.fire_time): one
            for one in reversed(self._runs)
            if one.scheduled_for is not None and not _is_record(one)
        }

    @cached_property
    def records(self) -> list[Run]:
        """The records of fire times that did not run."""
        return [one for one in self._runs if one.scheduled_for is not None and _is_record(one)]

    def going(self, at: Instant, *, besides: Run, partition: str | None) -> Run | None:
        """Return a run that was claimed and had not ended, in one partition or in any."""
        for claimed, end, run in self._spans:
            if claimed <= at <= end and run.id != besides.id and partition in {None, run.partition}:
                return run
        return None

    @cached_property
    def _spans(self) -> list[tuple[Instant, Instant, Run]]:
        return [
            (one.claimed_at, end, one)
            for one in self._runs
            if one.claimed_at is not None
            and one.holder
            and (end := _NEVER if one.outcome is None else ended_at(one)) is not None
        ]


def explain(
    task: str,
    instant: Instant,
    records: TaskRecords,
    runs: Sequence[Run],
    *,
    within: Span = SECOND,
) -> list[Explanation]:
    """Return what is on record about an instant of a task, one explanation for each partition.

    Args:
        task: the name of the task.
        instant: the beginning of the time that is asked for.
        records: what is recorded about the task.
        runs: all runs of it that are kept.
        within: the length of the time, such as a minute; the first `MAX_EXPLANATIONS` fire times in
            it are explained.

    """
    index = RunIndex(runs)
    manual = [
        run for run in runs if run.scheduled_for is None and 0 <= run.fire_time - instant < within
    ][:MAX_EXPLANATIONS]
    schedules = valid_schedules(records.versions)
    oldest = min((one.version.at for one in schedules), default=None)
    if oldest is None or instant + within <= oldest:
        since = "nothing about this task" if oldest is None else f"since {rfc3339(oldest)}"
        text = f"older than what is on record: {since}"
        return [
            *(_of_run(task, run, records, index) for run in manual),
            Explanation(task=task, instant=instant, kind=TOO_OLD, text=text),
        ]
    found = [_of_run(task, run, records, index) for run in manual]
    for partition in sorted({one.partition for one in schedules}):
        own = [one for one in schedules if one.partition == partition]
        all_ticks = (
            (tick, one) for one in own for tick in one.fire_times(instant, instant + within)
        )
        ticks = list(islice(all_ticks, MAX_EXPLANATIONS))
        found += [_of_tick(task, tick, by, records, index) for tick, by in ticks]
        if not ticks:
            found.append(_of_none(task, instant, own))
    return found[:MAX_EXPLANATIONS]


def _of_tick(
    task: str, tick: Instant, by: ValidSchedule, records: TaskRecords, runs: RunIndex
) -> Explanation:
    record = runs.at(by.partition, tick) or _record_of(tick, by, runs.records)
    if record is not None:
        found = _of_run(task, record, records, runs)
        return msgspec.structs.replace(found, instant=tick, partition=by.partition)
    kind, text = _unrecorded(tick, by, records)
    return Explanation(task=task, instant=tick, kind=kind, text=text, partition=by.partition)


def _is_record(run: Run) -> bool:
    return run.attempt == 0 and run.outcome in {Outcome.MISSED, Outcome.SKIPPED}


def _record_of(tick: Instant, by: ValidSchedule, runs: Iterable[Run]) -> Run | None:
    """Return the record of fire times that did not run that covers a fire time."""
    for run in runs:
        if run.partition == by.partition and run.fire_time <= tick:
            covered = by.fire_times(run.fire_time, tick + 1)
            if sum(1 for _ in zip(covered, range(run.count + 1), strict=False)) <= run.count:
                return run
    return None


def _unrecorded(tick: Instant, by: ValidSchedule, records: TaskRecords) -> tuple[str, str]:
    position = next((one for one in records.positions if one.partition == by.partition), None)
    if position is not None and by.until is None and tick > position.last_decided:
        if pause := _pause_at(records, tick):
            return PAUSED, f"{_pause_text(pause)}; it is recorded as missed when the pause ends"
        if tick >= records.now:
            return OPEN, "it is in the future"
        return OPEN, f"it is not decided yet: {_served_text(records, by.partition, tick)}"
    tallied = [one for one in records.tallies if one.hour == tick // HOUR * HOUR and one.is_planned]
    if tallied:
        parts = ", ".join(f"{one.number} {one.kind}" for one in tallied)
        return UNKNOWN, f"its record was deleted by then; its hour had: {parts}"
    if any(one.is_planned and one.newest >= tick for one in records.tallies):
        return UNKNOWN, "its record was deleted by then"
    if not by.follows:
        return UNKNOWN, "an earlier release of pulse changed the schedule about then"
    gap = _served_text(records, by.partition, tick)
    return UNEXPLAINED, f"it is nowhere on record, although it should be; {gap}"


def _of_run(task: str, run: Run, records: TaskRecords, runs: RunIndex) -> Explanation:
    kind = kind_of_run(run)
    text = {
        RAN: _text_of_start,
        ABANDONED: lambda run, *_: f"a process claimed it and was lost: {run.message}",
        SKIPPED: _text_of_skip,
        MISSED: _text_of_miss,
        PAUSED: _text_of_pause,
        STOPPED: lambda run, *_: run.message,
        OPEN: _text_of_wait,
    }[kind](run, records, runs)
    return Explanation(
        task=task,
        instant=run.fire_time,
        kind=kind,
        text=text,
        run=run,
        partition=run.partition,
    )


def _text_of_start(run: Run, records: TaskRecords, runs: RunIndex) -> str:
    outcome = "is in progress" if run.outcome is None else run.outcome.value
    first = f"{run.trigger.value} run, {outcome}"
    if run.holder:
        first = f"{first}, by {run.holder}"
    if run.attempt > 1:
        first = f"{first}, attempt {run.attempt}"
    lines = [first]
    begun = _first_start(run)
    late = None if begun is None else begun - run.fire_time
    if late is not None and late > PROMPT:
        lines.append(f"it started {_about(late)} late: {_why_late(run, begun, records, runs)}")
    if run.outcome not in {None, Outcome.SUCCEEDED} and run.message:
        lines.append(summary_line(run.message))
    return "\n".join(lines)


def _first_start(run: Run) -> Instant | None:
    starts = [one.started_at for one in run.attempts if one.started_at is not None]
    return starts[0] if starts else run.started_at


def _why_late(run: Run, begun: Instant | None, records: TaskRecords, runs: RunIndex) -> str:
    at = run.fire_time
    if gap := _gap(records, run.partition, at):
        return gap
    if pause := next((one for one in records.pauses if one.covers(at)), None):
        return _pause_text(pause)
    if busy := runs.going(at, besides=run, partition=run.partition):
        return f"run {busy.id} of {rfc3339(busy.fire_time)} was still going"
    if run.claimed_at is not None and begun is not None and begun - run.claimed_at > PROMPT:
        return "the process had claimed it before, and had no free slot"
    return "no process was free, or the store did not answer"


def _text_of_skip(run: Run, records: TaskRecords, runs: RunIndex) -> str:  # noqa: ARG001 - one signature
    going = runs.going(run.fire_time, besides=run, partition=run.partition)
    others = "another fire time" if run.count == 2 else f"{run.count - 1} more fire times"  # noqa: PLR2004 - it and another one
    number = "" if run.count == 1 else f", with {others} from {rfc3339(run.fire_time)} on"
    lines = [f"it {run.message}{number}"]
    if going is not None:
        begun = rfc3339(going.claimed_at or going.fire_time)
        by = f"going since {begun}, by {going.holder}"
        if going.holder == QUEUE_HOLDER:
            by = f"which waits for a worker since {begun}"
        lines.append(f"in its way was run {going.id}, {by}")
    return "\n".join(lines)


def _text_of_miss(run: Run, records: TaskRecords, runs: RunIndex) -> str:  # noqa: ARG001 - one signature
    number = "it" if run.count == 1 else f"{run.count} fire times from {rfc3339(run.fire_time)} on"
    gap = _gap(records, run.partition, run.fire_time)
    text = run.message if run.message.startswith(NOT_TAKEN) else f"{number} {run.message}"
    return text + (f"\n{gap}" if gap else "")


def _text_of_pause(run: Run, records: TaskRecords, runs: RunIndex) -> str:  # noqa: ARG001 - one signature
    pause = _pause_at(records, run.fire_time)
    return run.message if pause is None else _pause_text(pause)


def _text_of_wait(run: Run, records: TaskRecords, runs: RunIndex) -> str:
    if run.holder:
        return f"it {run.message}"
    if run.attempt:
        at = "" if run.retry_at is None else f" until {rfc3339(run.retry_at)}"
        return f"attempt {run.attempt} failed, and it waits{at} for the next one"
    going = runs.going(records.now, besides=run, partition=None)
    reason = "a free process" if going is None else f"run {going.id} to end"
    return f"it waits for {reason}"


def _of_none(task: str, instant: Instant, schedules: Sequence[ValidSchedule]) -> Explanation:
    before, after = _nearest(instant, schedules)
    lines = ["the task has no fire time then"]
    near = [rfc3339(one) for one in (before, after) if one is not None]
    if near:
        lines[0] += f"; the nearest are {' and '.join(near)}"
    valid = [
        one
        for one in schedules
        if one.version.at <= instant and (one.until is None or instant < one.until)
    ]
    if not valid:
        lines.append("it was not in use then")
    lines += filter(None, (_clock_change(instant, one) for one in valid))
    return Explanation(
        task=task,
        instant=instant,
        kind=NOT_A_FIRE_TIME,
        text="\n".join(lines),
        before=before,
        after=after,
        partition=schedules[0].partition,
    )


def _nearest(
    instant: Instant, schedules: Sequence[ValidSchedule]
) -> tuple[Instant | None, Instant | None]:
    before: Instant | None = None
    after: Instant | None = None
    for one in schedules:
        following = one.first_from(instant)
        if following is not None and (after is None or following < after):
            after = following
        last = _last_before(instant, one)
        if last is not None and (before is None or last > before):
            before = last
    return before, after


def _last_before(instant: Instant, one: ValidSchedule) -> Instant | None:
    first = one.version.first
    if first is None or one.schedule is None or first >= instant:
        return None
    last = instant - 1 if one.until is None else min(instant, one.until) - 1
    if first > last:
        return None
    return one.schedule.due(first, last, anchor=one.version.anchor).newest


def _clock_change(instant: Instant, one: ValidSchedule) -> str:
    """Return a sentence about a clock change of the task's zone within a day, or an empty text."""
    settings = dict(msgspec.json.decode(one.version.schedule))
    name = settings.get("timezone", "UTC")
    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # a zone that this host does not have is a KeyError
        return ""
    noon = moment_of(instant)
    try:
        around = [(noon + timedelta(hours=hours)).astimezone(zone) for hours in range(-24, 25)]
    except OverflowError:  # within the first or last hours that datetime can represent
        return ""
    for earlier, later in pairwise(around):
        one_offset, other = earlier.utcoffset(), later.utcoffset()
        if one_offset is not None and other is not None and one_offset != other:
            minutes = round((other - one_offset).total_seconds() / 60)
            return (
                f"the clock of {name} changed by {minutes:+d} minutes between"
                f" {_local(earlier)} and {_local(later)}: times of day in between are skipped, or"
                " come twice"
            )
    return ""


def _local(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname()} ({moment.astimezone(UTC):%H:%M} UTC)"


def _pause_at(records: TaskRecords, at: Instant) -> PausedInterval | None:
    return next((one for one in records.pauses if one.covers(at)), None)


def _pause_text(pause: PausedInterval) -> str:
    what = "all tasks were paused" if pause.every else "the task was paused"
    since = "" if pause.since is None else f" from {rfc3339(pause.since)}"
    until = "" if pause.until is None else f" to {rfc3339(pause.until)}"
    by = f" by {pause.by}" if pause.by else ""
    note = f" ({pause.note})" if pause.note else ""
    return f"{what}{since}{until}{by}{note}"


def _gap(records: TaskRecords, partition: str, at: Instant) -> str:
    """Return from when to when nobody served a partition, if that was so at an instant."""
    spans = [one for one in records.served if one.partition == partition]
    ended = max((one.until for one in spans if one.since <= at), default=None)
    # The newest span is written each third of a lease while a process lives.
    newest = max((one.until for one in spans), default=None)
    if newest is not None and newest == ended and records.now - newest <= records.lease_us:
        return ""
    if any(one.since <= at <= one.until for one in spans):
        return ""
    begun = min((one.since for one in spans if one.since > at), default=None)
    since = "before" if ended is None else f"from about {rfc3339(ended)}"
    until = "until now" if begun is None else f"to {rfc3339(begun)}"
    return f"nobody served {since} {until}"


def _served_text(records: TaskRecords, partition: str, at: Instant) -> str:
    return _gap(records, partition, at) or "processes served then"


def _about(span: Span) -> str:
    if span >= 10 * SECOND:
        span = round(span / SECOND) * SECOND
    return duration_text(max(span // 1_000 * 1_000, 1_000))
