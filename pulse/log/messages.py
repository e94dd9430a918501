"""The wording of each log line: the listener that logs events on the logger `pulse`.

A run is one line: `cleanup 2026-11-23T07:00:00Z succeeded 200 in 12 ms, 3 ms late [pid 123]`. The
line names the delay of a jitter beside the lateness, which does not include the delay. A failed run
is a WARNING; the message of the failure follows, indented, so that no response can forge a line. A
store outage is one ERROR, another for each new reason and every five minutes, and an INFO at its
end. During a long overload, ten lines a minute report missed ticks, and one line reports that there
are more. JSON loggers find the same facts in the attributes of the record, which all begin with
`pulse_`; there the lateness is the whole time since the fire time.

The listener configures no logging. If the application configures none either, `logging.lastResort`
writes warnings to stderr. `pulse.logger` describes what happens to a logger that is disabled.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Generic, TypeVar

from pulse import events
from pulse.clock import SECOND, Span, SystemClock, rfc3339
from pulse.core.run import Outcome
from pulse.core.run_transitions import NOT_TAKEN
from pulse.errors import StoreProblem
from pulse.log.format import (
    ended_line,
    escape_control_characters,
    not_retried_because,
    result_text,
    span_text,
    tick,
    wanted_delay,
    why_abandoned,
)
from pulse.log.handle_calls import subscribe_calls
from pulse.logger import LOGGER, is_enabled_for, log
from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Clock
    from pulse.core.run import Claim, Result, Run

    Extra = dict[str, object]

E = TypeVar("E", bound=events.Event)

_SUCCEEDED = Outcome.SUCCEEDED
_MAX_NAMES = 10
_LIMITED_LINES = 10
_LIMITED_WINDOW: Span = 60 * SECOND
_UNNAMED = (
    "if these are tasks of another application, give each application its own pulse.config.name"
)
_OTHERS = (
    "other processes declare other tasks than this process, as in a rolling deploy, or if an old"
    " worker still runs"
)
_OUTAGES = {
    StoreProblem.SILENT: (
        "the store does not answer, nothing runs until it does",
        "the store still does not answer after {after}, nothing runs until it does",
    ),
    StoreProblem.REFUSING: (
        "the store refuses calls, nothing runs until it accepts them",
        "after {after} the store refuses calls, nothing runs until it accepts them",
    ),
    StoreProblem.REPLACED: (
        "the store was replaced or has lost data",
        "the store was replaced or has lost data, {after} after the outage began",
    ),
}
"""By problem: the text when an outage begins, and the text while it lasts."""

_REACH = {
    "process": "each tick runs once in each process",
    "host": "each tick runs once on this host",
    "fleet": "each tick runs once among all processes that share the store",
}


def subscribe_log(bus: events.EventBus, clock: Clock | None = None) -> None:
    """Log every event of *bus* but claims; see `subscribe_claims`."""
    bus.subscribe(events.RunEnded, run_ended)
    bus.subscribe(events.RunRetrying, run_retrying)
    bus.subscribe(events.RetryExpired, retry_expired)
    bus.subscribe(events.RunOverdue, run_overdue)
    bus.subscribe(events.RunAbandoned, run_abandoned)
    bus.subscribe(events.ClaimLost, claim_lost)
    clock = clock or SystemClock()
    missed = _LimitedLines(
        clock, tick_missed, kind="missed ticks", place="logged at DEBUG and listed by runs()"
    )
    bus.subscribe(events.TickMissed, missed)
    rewound = _LimitedLines(
        clock, task_rewound, kind="tasks affected by a clock set back", place="logged at DEBUG"
    )
    bus.subscribe(events.TaskRewound, rewound)
    bus.subscribe(events.TickSkipped, tick_skipped)
    bus.subscribe(events.StoreUnavailable, store_unavailable)
    bus.subscribe(events.StoreRecovered, store_recovered)
    bus.subscribe(events.BrokerUnavailable, broker_unavailable)
    bus.subscribe(events.BrokerRecovered, broker_recovered)
    bus.subscribe(events.SchedulerError, scheduler_error)
    bus.subscribe(events.SchedulerStarted, scheduler_started)
    bus.subscribe(events.SchedulerStopped, scheduler_stopped)
    bus.subscribe(events.DefinitionsSuperseded, definitions_superseded)
    bus.subscribe(events.ConfigMismatch, config_mismatch)
    bus.subscribe(events.TasksChanged, tasks_changed)
    subscribe_calls(bus)
    bus.subscribe(events.TasksOverridden, tasks_overridden)
    bus.subscribe(events.TasksArchived, tasks_archived)
    bus.subscribe(events.StartFailed, start_failed)
    bus.subscribe(events.StartDisabled, start_disabled)
    bus.subscribe(events.Notice, notice)


def subscribe_claims(bus: events.EventBus) -> None:
    """Log claims if the logger has the level DEBUG; otherwise no claim costs an event."""
    if is_enabled_for(logging.DEBUG):
        bus.subscribe(events.RunClaimed, run_claimed)


def run_ended(event: events.RunEnded) -> None:
    """Log a finished run: INFO for a success, WARNING for any other outcome."""
    result = event.result
    if result.outcome is _SUCCEEDED:
        level, is_enabled = logging.INFO, LOGGER.isEnabledFor(logging.INFO)
    else:  # failures appear even if the logger is disabled
        level, is_enabled = logging.WARNING, is_enabled_for(logging.WARNING)
    if is_enabled:
        line = ended_line(
            event.claim, result, os.getpid(), then=not_retried_because(event.claim, result)
        )
        log(level, f"{line}{result_text(result)}", _facts_of_end(event.claim, result))


def run_retrying(event: events.RunRetrying) -> None:
    """Log a failed attempt with a retry as WARNING."""
    result, at = event.result, event.retry_at
    then = f"retried at {rfc3339(at - at % SECOND)}"
    line = ended_line(event.claim, result, os.getpid(), then=then)
    extra = _facts_of_end(event.claim, result) | {"pulse_retry_at": rfc3339(at)}
    log(logging.WARNING, f"{line}{result_text(result)}", extra)


def retry_expired(event: events.RetryExpired) -> None:
    """Log a run whose retry no process started in time as WARNING."""
    run = event.run
    outcome = "" if run.outcome is None else run.outcome.value
    status = f" {run.status}" if run.status else ""
    end = f"{outcome}{status}, attempt {run.attempt}"
    reason = "no process was free before the next tick"
    first = run.message.partition("\n")[0]
    if NOT_TAKEN in first:
        taken = escape_control_characters(first[first.index(NOT_TAKEN) :])
        reason = f"{taken}; is a worker running that reads this queue?"
    text = f"{tick(run)} {end}, and was not retried: {reason}"
    facts = {"pulse_outcome": outcome, "pulse_status": run.status}
    log(logging.WARNING, f"{text} [pid {os.getpid()}]", _facts(run) | facts)


def run_claimed(event: events.RunClaimed) -> None:
    """Log a claim as DEBUG."""
    if is_enabled_for(logging.DEBUG):
        run = event.claim.run
        text = f"{tick(run)} claimed, attempt {run.attempt} [pid {os.getpid()}]"
        log(logging.DEBUG, text, _facts(run))


def run_overdue(event: events.RunOverdue) -> None:
    """Log a run past its timeout that the engine cannot interrupt as WARNING."""
    run, timeout = event.claim.run, duration_text(event.claim.definition.timeout_us)
    text = (
        f"{tick(run)} is past its timeout of {timeout} and continues, because this mode cannot "
        f"stop it; overdue runs in this process: {event.left_behind} [pid {os.getpid()}]"
    )
    log(logging.WARNING, text, _facts(run) | {"pulse_left_behind": event.left_behind})


def run_abandoned(event: events.RunAbandoned) -> None:
    """Log a run whose holder died or lost its lease as WARNING."""
    run = event.run
    text = f"{tick(run)} abandoned: {why_abandoned(run)}"
    if run.attempt > 1:
        text = f"{text}, attempt {run.attempt}"
    log(logging.WARNING, text, _facts(run) | {"pulse_outcome": Outcome.ABANDONED.value})


def claim_lost(event: events.ClaimLost) -> None:
    """Log a run that finished after its claim was lost as WARNING; the history has another end."""
    line = ended_line(event.claim, event.result, os.getpid())
    text = f"{line}, but its claim was lost: the store keeps the earlier record"
    log(logging.WARNING, text, _facts_of_end(event.claim, event.result))


class _LimitedLines(Generic[E]):
    """Logs lines of one kind: ten a minute as WARNING, further ones as DEBUG.

    Args:
        clock: measures the minute.
        log: logs one event with a level.
        kind: what the lines report, in the plural.
        place: where the further ones are found.

    """

    def __init__(
        self, clock: Clock, log: Callable[[E, int], None], *, kind: str, place: str
    ) -> None:
        self._clock = clock
        self._log = log
        self._text = f"more than {_LIMITED_LINES} {kind} this minute; further ones are {place}"
        self._until: Span = 0
        self._left = 0

    def __call__(self, event: E) -> None:
        """Log an event."""
        now = self._clock.boot()
        if now >= self._until:
            self._until, self._left = now + _LIMITED_WINDOW, _LIMITED_LINES
        level = logging.WARNING if self._left > 0 else logging.DEBUG
        if is_enabled_for(level):
            self._log(event, level)
        if self._left == 0:
            log(logging.WARNING, self._text)
        self._left -= 1


def tick_missed(event: events.TickMissed, level: int) -> None:
    """Log the fire times that were missed together as one line."""
    run = event.run
    reason = escape_control_characters(run.message)
    number = "1 fire time" if run.count == 1 else f"{run.count} fire times from then on"
    text = f"{tick(run)} missed: {number} {reason}"
    if run.message.startswith(NOT_TAKEN):
        text = f"{tick(run)} missed: {reason}; is a worker running that reads this queue?"
    extra = _facts(run) | {"pulse_outcome": "missed", "pulse_count": run.count}
    log(level, text, extra)


def task_rewound(event: events.TaskRewound, level: int) -> None:
    """Log a task whose next run is another one because the clock was set back."""
    name, then = escape_control_characters(event.task), "nothing"
    if event.next_fire is not None:
        then = rfc3339(event.next_fire - event.next_fire % SECOND)
    if event.refused is None:
        text = (
            f"{name} was scheduled by a clock that was ahead and is now set back; runs next: {then}"
        )
    else:
        refused = rfc3339(event.refused - event.refused % SECOND)
        text = (
            f"{name} {refused} does not run: it was decided before the clock was set back, and no"
            f" tick runs twice; runs next: {then}"
        )
    extra: Extra = {
        "pulse_task": event.task,
        "pulse_fire_time": None if event.refused is None else rfc3339(event.refused),
        "pulse_next_fire": None if event.next_fire is None else rfc3339(event.next_fire),
    }
    log(level, text, extra)


def tick_skipped(event: events.TickSkipped) -> None:
    """Log a skipped tick as INFO, since the policy of the task asks for it."""
    if is_enabled_for(logging.INFO):
        run = event.run
        number = "1 fire time" if run.count == 1 else f"so far {run.count} fire times in a row"
        text = f"{tick(run)} skipped: {number} {escape_control_characters(run.message)}"
        extra = _facts(run) | {"pulse_outcome": "skipped", "pulse_count": run.count}
        log(logging.INFO, text, extra)


def store_unavailable(event: events.StoreUnavailable) -> None:
    """Log an outage as ERROR, with its duration unless it begins: no task runs until it ends."""
    text, lasting = _OUTAGES[event.problem]
    if event.after_us:
        text = lasting.format(after=span_text(event.after_us))
    log(logging.ERROR, f"{text} [pid {os.getpid()}]: {event.error}")


def store_recovered(event: events.StoreRecovered) -> None:
    """Log the end of an outage as INFO."""
    text = f"the store answers again after {span_text(event.after_us)} [pid {os.getpid()}]"
    log(logging.INFO, text)


def broker_unavailable(event: events.BrokerUnavailable) -> None:
    """Log as ERROR that the broker does not answer: what is due waits in the store."""
    text = f"the broker {event.broker} does not answer: nothing is posted until it does"
    reason = escape_control_characters(event.error)
    log(logging.ERROR, f"{text} [pid {os.getpid()}]: {reason}")


def broker_recovered(event: events.BrokerRecovered) -> None:
    """Log as INFO that the broker answers again."""
    after = span_text(event.after_us)
    log(logging.INFO, f"the broker {event.broker} answers again after {after} [pid {os.getpid()}]")


def scheduler_error(event: events.SchedulerError) -> None:
    """Log an unexpected error of the loop as ERROR, with its traceback."""
    error = event.error
    about = f" with task {event.task}" if event.task else ""
    log(
        logging.ERROR,
        f"the scheduler continues after an unexpected error{about}",
        {"pulse_task": event.task},
        error=error,
    )


def scheduler_started(event: events.SchedulerStarted) -> None:
    """Log the start as INFO, with the reach of the store."""
    number = "1 task" if event.tasks == 1 else f"{event.tasks} tasks"
    reach = _REACH.get(event.scope, event.scope)
    store = f"store {event.store}{_name(event)}"
    text = f"started with {number}{_paused(event)}, mode {event.mode}, {store}: {reach}"
    extra = {
        "pulse_holder": event.holder,
        "pulse_mode": event.mode,
        "pulse_store": event.store,
        "pulse_reach": event.scope,
        "pulse_name": event.name,
        "pulse_paused": event.paused,
    }
    log(logging.INFO, f"{text} [pid {os.getpid()}]", extra)


def _paused(event: events.SchedulerStarted) -> str:
    """Return the paused tasks for the log line."""
    if not event.paused:
        return ""
    if "" in event.paused:
        return " (all tasks are paused)"
    names = ", ".join(map(escape_control_characters, event.paused[:_MAX_NAMES]))
    more = ", ..." if len(event.paused) > _MAX_NAMES else ""
    return f" ({len(event.paused)} paused: {names}{more})"


def _name(event: events.SchedulerStarted) -> str:
    """Return the name for the log line; `no name` only for a configured store that is shared."""
    if event.name:
        return f", name {event.name}"
    return ", no name" if event.chosen and event.scope != "process" else ""


def scheduler_stopped(event: events.SchedulerStopped) -> None:
    """Log the stop: INFO, or WARNING if it interrupted runs."""
    level = logging.WARNING if event.interrupted else logging.INFO
    lost = f"; runs that did not end in time: {event.interrupted}" if event.interrupted else ""
    log(level, f"stopped{lost} [pid {os.getpid()}]", {"pulse_holder": event.holder})


def definitions_superseded(event: events.DefinitionsSuperseded) -> None:
    """Log tasks that this process does not run because others have newer definitions.

    The line is INFO, since a rolling deploy causes it; without a name it is WARNING, since another
    application may be the cause.
    """
    level, text = logging.INFO, "this process runs all its tasks again"
    if event.tasks:
        names = ", ".join(event.tasks)
        text = (
            "another process has newer definitions of these tasks; this process will not run"
            f" them: {names}"
        )
    if event.tasks and not event.name:
        level, text = logging.WARNING, f"{text}; {_UNNAMED}"
    log(level, f"{text} [pid {os.getpid()}]", {"pulse_tasks": event.tasks})


def config_mismatch(event: events.ConfigMismatch) -> None:
    """Log processes with other tasks as INFO; after a deploy, an old process causes it."""
    if event.holders:
        names = ", ".join(event.holders)
        text = f"{_OTHERS}: {names}"
    else:
        text = "all processes declare the same tasks again"
    log(logging.INFO, f"{text} [pid {os.getpid()}]", {"pulse_holders": event.holders})


def tasks_changed(event: events.TasksChanged) -> None:
    """Log changed definitions as INFO; only the process that changed them logs the line."""
    text = f"definitions changed: {', '.join(event.tasks)}"
    log(logging.INFO, f"{text} [pid {os.getpid()}]", {"pulse_tasks": event.tasks})


def tasks_overridden(event: events.TasksOverridden) -> None:
    """Log run-time tasks that the configuration replaced as WARNING."""
    names = ", ".join(map(escape_control_characters, event.tasks))
    text = "the configuration declares tasks that were added at run time, and replaces them"
    log(logging.WARNING, f"{text}: {names} [pid {os.getpid()}]", {"pulse_tasks": event.tasks})


def tasks_archived(event: events.TasksArchived) -> None:
    """Log archived tasks as INFO."""
    names = ", ".join(map(escape_control_characters, event.tasks))
    text = f"archived tasks that no live process has declared for three leases: {names}"
    log(logging.INFO, f"{text} [pid {os.getpid()}]", {"pulse_tasks": event.tasks})


def start_failed(event: events.StartFailed) -> None:
    """Log a failed start as ERROR: the tasks do not run here until the problem is solved."""
    problem = "; ".join(event.problem.splitlines())
    text = "the tasks of a PulseMiddleware cannot run in this process"
    log(logging.ERROR, f"{text} [pid {os.getpid()}]: {problem}")


def start_disabled(event: events.StartDisabled) -> None:
    """Log as INFO that no scheduler starts here, because the configuration says so."""
    text = f"no scheduler starts in this process: {event.reason} [pid {os.getpid()}]"
    log(logging.INFO, text)


def notice(event: events.Notice) -> None:
    """Log a notice as WARNING."""
    log(logging.WARNING, event.text)


def _facts(run: Run) -> Extra:
    return {
        "pulse_task": run.task,
        "pulse_fire_time": rfc3339(run.fire_time),
        "pulse_run_id": run.id,
        "pulse_attempt": run.attempt,
        "pulse_trigger": run.trigger.value,
        "pulse_worker_pid": os.getpid(),
    }


def _facts_of_end(claim: Claim, result: Result) -> Extra:
    return _facts(claim.run) | {
        "pulse_outcome": result.outcome.value,
        "pulse_status": result.status,
        "pulse_lateness_ms": (result.started_at - claim.run.fire_time) / 1_000,
        "pulse_jitter_ms": wanted_delay(claim) / 1_000,
        "pulse_duration_ms": result.took_us / 1_000,
    }
