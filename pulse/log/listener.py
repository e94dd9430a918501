"""The log listener: what happens, in readable lines on the logger `pulse`.

One line a run: `cleanup 2026-11-23T07:00:00Z succeeded 200 in 12 ms, 3 ms late [pid 123]`. The
delay that a jitter brings is told beside the lateness, as no part of it. A failed run is a WARNING
and goes on with what it said, indented, so that no reply can forge a line. A store outage is one
ERROR and an INFO at its end. Under an overload that lasts, ten lines a minute tell of missed ticks,
and one says that there are more. JSON loggers find the same facts in the record's attributes, which
all begin with `pulse_`; there the lateness is the whole time since the fire time.

Nothing is installed: where no logging is set up, `logging.lastResort` shows warnings on stderr.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from pulse import events
from pulse.clock import SECOND, Span, SystemClock, rfc3339
from pulse.core.run import Outcome
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
from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    from pulse.clock import Clock
    from pulse.core.run import Claim, Result, Run

    Extra = dict[str, object]

_log = logging.getLogger("pulse")
_SUCCEEDED = Outcome.SUCCEEDED
_MISSED_LINES = 10
_MISSED_WINDOW: Span = 60 * SECOND
_UNNAMED = (
    "if these are tasks of another application, give each application its own pulse.config.name"
)
_OTHERS = (
    "processes take part that hold other tasks than this one, as in a rolling deploy, or where"
    " a worker was forgotten"
)
_REACH = {
    "process": "each tick runs once in this process, and in every other one too",
    "host": "each tick runs once on this host",
    "fleet": "each tick runs once among all that share the store",
}


def subscribe_log(bus: events.EventBus, clock: Clock | None = None) -> None:
    """Let everything that happens on *bus* be logged."""
    bus.subscribe(events.RunEnded, run_ended)
    bus.subscribe(events.RunRetrying, run_retrying)
    bus.subscribe(events.RetryExpired, retry_expired)
    bus.subscribe(events.RunOverdue, run_overdue)
    bus.subscribe(events.RunAbandoned, run_abandoned)
    bus.subscribe(events.ClaimLost, claim_lost)
    bus.subscribe(events.TickMissed, MissedLines(clock or SystemClock()))
    bus.subscribe(events.TickSkipped, tick_skipped)
    bus.subscribe(events.StoreUnavailable, store_unavailable)
    bus.subscribe(events.StoreRecovered, store_recovered)
    bus.subscribe(events.SchedulerError, scheduler_error)
    bus.subscribe(events.SchedulerStarted, scheduler_started)
    bus.subscribe(events.SchedulerStopped, scheduler_stopped)
    bus.subscribe(events.DefinitionsSuperseded, definitions_superseded)
    bus.subscribe(events.ConfigMismatch, config_mismatch)
    bus.subscribe(events.TasksChanged, tasks_changed)
    bus.subscribe(events.TaskAdded, task_added)
    bus.subscribe(events.TaskRemoved, task_removed)
    bus.subscribe(events.TasksOverridden, tasks_overridden)
    bus.subscribe(events.TasksArchived, tasks_archived)
    bus.subscribe(events.StartFailed, start_failed)
    bus.subscribe(events.Notice, notice)


def subscribe_claims(bus: events.EventBus) -> None:
    """Let claims be logged where somebody looks at DEBUG: elsewhere each tick would pay for it."""
    if _log.isEnabledFor(logging.DEBUG):
        bus.subscribe(events.RunClaimed, run_claimed)


def run_ended(event: events.RunEnded) -> None:
    """INFO for a success, WARNING for any other end."""
    result = event.result
    level = logging.INFO if result.outcome is _SUCCEEDED else logging.WARNING
    if _log.isEnabledFor(level):
        line = ended_line(
            event.claim, result, os.getpid(), then=not_retried_because(event.claim, result)
        )
        _log_event(level, f"{line}{result_text(result)}", _facts_of_end(event.claim, result))


def run_retrying(event: events.RunRetrying) -> None:
    """WARNING: it went wrong, and goes on."""
    result, at = event.result, event.retry_at
    then = f"retried at {rfc3339(at - at % SECOND)}"
    line = ended_line(event.claim, result, os.getpid(), then=then)
    extra = _facts_of_end(event.claim, result) | {"pulse_retry_at": rfc3339(at)}
    _log_event(logging.WARNING, f"{line}{result_text(result)}", extra)


def retry_expired(event: events.RetryExpired) -> None:
    """WARNING: it failed, and nobody was there to try it again."""
    run = event.run
    outcome = "" if run.outcome is None else run.outcome.value
    status = f" {run.status}" if run.status else ""
    end = f"{outcome}{status}, attempt {run.attempt}"
    text = f"{tick(run)} {end}, and was not retried: no process was free before the next tick"
    facts = {"pulse_outcome": outcome, "pulse_status": run.status}
    _log_event(logging.WARNING, f"{text} [pid {os.getpid()}]", _facts(run) | facts)


def run_claimed(event: events.RunClaimed) -> None:
    """DEBUG: what is on its way."""
    if _log.isEnabledFor(logging.DEBUG):
        run = event.claim.run
        text = f"{tick(run)} claimed, attempt {run.attempt} [pid {os.getpid()}]"
        _log.debug(text, extra=_facts(run))


def run_overdue(event: events.RunOverdue) -> None:
    """WARNING: it may be stuck, and nobody can stop it."""
    run, timeout = event.claim.run, duration_text(event.claim.definition.timeout_us)
    text = (
        f"{tick(run)} is past its timeout of {timeout} and goes on, because this mode cannot "
        f"stop it; runs left behind here: {event.left_behind} [pid {os.getpid()}]"
    )
    _log_event(logging.WARNING, text, _facts(run) | {"pulse_left_behind": event.left_behind})


def run_abandoned(event: events.RunAbandoned) -> None:
    """WARNING: a process died in the middle of it."""
    run = event.run
    text = f"{tick(run)} abandoned: {why_abandoned(run)}"
    if run.attempt > 1:
        text = f"{text}, attempt {run.attempt}"
    _log_event(logging.WARNING, text, _facts(run) | {"pulse_outcome": Outcome.ABANDONED.value})


def claim_lost(event: events.ClaimLost) -> None:
    """WARNING: it did run, and history says otherwise."""
    line = ended_line(event.claim, event.result, os.getpid())
    text = f"{line}, but its claim had been lost: the store keeps what was recorded before"
    _log_event(logging.WARNING, text, _facts_of_end(event.claim, event.result))


class MissedLines:
    """WARNING: nobody was there in time; DEBUG for what is more than ten lines a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: Span = 0
        self._left = 0

    def __call__(self, event: events.TickMissed) -> None:
        """Log the missed fire times of one task."""
        now = self._clock.boot()
        if now >= self._until:
            self._until, self._left = now + _MISSED_WINDOW, _MISSED_LINES
        level = logging.WARNING if self._left > 0 else logging.DEBUG
        if _log.isEnabledFor(level):
            tick_missed(event, level)
        if self._left == 0:
            _log_event(
                logging.WARNING,
                "more ticks are missed than are told here: for a minute the history alone tells",
            )
        self._left -= 1


def tick_missed(event: events.TickMissed, level: int) -> None:
    """One line for the fire times that were missed together."""
    run = event.run
    number = "1 fire time" if run.count == 1 else f"{run.count} fire times from then on"
    text = f"{tick(run)} missed: {number} {escape_control_characters(run.message)}"
    extra = _facts(run) | {"pulse_outcome": "missed", "pulse_count": run.count}
    _log_event(level, text, extra)


def tick_skipped(event: events.TickSkipped) -> None:
    """INFO: the task's policy at work."""
    if _log.isEnabledFor(logging.INFO):
        run = event.run
        number = "1 fire time" if run.count == 1 else f"so far {run.count} fire times in a row"
        text = f"{tick(run)} skipped: {number} {escape_control_characters(run.message)}"
        extra = _facts(run) | {"pulse_outcome": "skipped", "pulse_count": run.count}
        _log.info(text, extra=extra)


def store_unavailable(event: events.StoreUnavailable) -> None:
    """ERROR: no task runs until the store is back."""
    text = "the store does not answer, nothing runs until it does"
    _log_event(logging.ERROR, f"{text} [pid {os.getpid()}]: {event.error}")


def store_recovered(event: events.StoreRecovered) -> None:
    """INFO: the end of an outage."""
    _log.info("the store answers again after %s [pid %d]", span_text(event.after_us), os.getpid())


def scheduler_error(event: events.SchedulerError) -> None:
    """ERROR with its traceback: it should not happen."""
    error = event.error
    about = f" with task {event.task}" if event.task else ""
    _log.error(
        "the scheduler goes on after an unexpected error%s",
        about,
        exc_info=(type(error), error, error.__traceback__),
        extra={"pulse_task": event.task},
    )


def scheduler_started(event: events.SchedulerStarted) -> None:
    """INFO: who takes part, and how far once reaches."""
    number = "1 task" if event.tasks == 1 else f"{event.tasks} tasks"
    reach = _REACH.get(event.scope, event.scope)
    text = f"started with {number}, mode {event.mode}, store {event.store}{_name(event)}: {reach}"
    extra = {
        "pulse_holder": event.holder,
        "pulse_mode": event.mode,
        "pulse_store": event.store,
        "pulse_reach": event.scope,
        "pulse_name": event.name,
    }
    _log.info("%s [pid %d]", text, os.getpid(), extra=extra)


def _name(event: events.SchedulerStarted) -> str:
    """Return the name, or that there is none where it is wanted: in a store that can be shared."""
    if event.name:
        return f", name {event.name}"
    return ", no name" if event.chosen and event.scope != "process" else ""


def scheduler_stopped(event: events.SchedulerStopped) -> None:
    """INFO, or WARNING when it cost running work."""
    level = logging.WARNING if event.interrupted else logging.INFO
    lost = f"; runs that did not end in time: {event.interrupted}" if event.interrupted else ""
    _log_event(level, f"stopped{lost} [pid {os.getpid()}]", {"pulse_holder": event.holder})


def definitions_superseded(event: events.DefinitionsSuperseded) -> None:
    """INFO: normal in a rolling deploy. WARNING where it may be another application's doing."""
    level, text = logging.INFO, "all definitions of this process stand again"
    if event.tasks:
        names = ", ".join(event.tasks)
        text = f"newer definitions stand, so this process leaves these tasks alone: {names}"
    if event.tasks and not event.name:
        level, text = logging.WARNING, f"{text}; {_UNNAMED}"
    _log_event(level, f"{text} [pid {os.getpid()}]", {"pulse_tasks": event.tasks})


def config_mismatch(event: events.ConfigMismatch) -> None:
    """INFO: normal in a rolling deploy, and a sign of a forgotten process after one."""
    if event.holders:
        names = ", ".join(event.holders)
        text = f"{_OTHERS}: {names}"
    else:
        text = "all processes hold the same tasks again"
    _log.info("%s [pid %d]", text, os.getpid(), extra={"pulse_holders": event.holders})


def tasks_changed(event: events.TasksChanged) -> None:
    """INFO: what a deploy brings, by the one process that was first."""
    text = f"definitions changed: {', '.join(event.tasks)}"
    _log_event(logging.INFO, f"{text} [pid {os.getpid()}]", {"pulse_tasks": event.tasks})


def task_added(event: events.TaskAdded) -> None:
    """INFO: somebody has asked for it."""
    done = "added or replaced" if event.replace else "added"
    text = f"{done} at run time: {escape_control_characters(event.task)}"
    _log_event(logging.INFO, f"{text} [pid {os.getpid()}]", {"pulse_task": event.task})


def task_removed(event: events.TaskRemoved) -> None:
    """INFO: somebody has asked for it."""
    text = f"removed at run time: {escape_control_characters(event.task)}"
    _log_event(logging.INFO, f"{text} [pid {os.getpid()}]", {"pulse_task": event.task})


def tasks_overridden(event: events.TasksOverridden) -> None:
    """WARNING: what somebody has added is no more."""
    names = ", ".join(map(escape_control_characters, event.tasks))
    text = "the configuration declares tasks that were added at run time, and stands"
    _log_event(
        logging.WARNING, f"{text}: {names} [pid {os.getpid()}]", {"pulse_tasks": event.tasks}
    )


def tasks_archived(event: events.TasksArchived) -> None:
    """INFO: so ends a task that is declared no more, and one that was forgotten shows."""
    names = ", ".join(map(escape_control_characters, event.tasks))
    text = f"no process has wanted these tasks for three leases, they are put away: {names}"
    _log_event(logging.INFO, f"{text} [pid {os.getpid()}]", {"pulse_tasks": event.tasks})


def start_failed(event: events.StartFailed) -> None:
    """ERROR: these tasks do not run here until somebody has done something about it."""
    problem = "; ".join(event.problem.splitlines())
    text = "the tasks of a PulseMiddleware cannot run in this process"
    _log_event(logging.ERROR, f"{text} [pid {os.getpid()}]: {problem}")


def notice(event: events.Notice) -> None:
    """WARNING: a person should know."""
    _log_event(logging.WARNING, event.text)


def _log_event(level: int, text: str, extra: Extra | None = None) -> None:
    """Log a line, which says itself whose it is where no logging is set up to say it."""
    _log.log(level, text if _log.hasHandlers() else f"pulse: {text}", extra=extra)


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
