"""The log lines about calls of the handle: who asked for which change, of which task."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from pulse import events
from pulse.clock import rfc3339
from pulse.log.format import escape_control_characters
from pulse.logger import log

if TYPE_CHECKING:
    from collections.abc import Mapping


def subscribe_calls(bus: events.EventBus) -> None:
    """Log the events of the handle."""
    bus.subscribe(events.TaskAdded, task_added)
    bus.subscribe(events.TaskRemoved, task_removed)
    bus.subscribe(events.TaskPaused, task_paused)
    bus.subscribe(events.TaskResumed, task_resumed)
    bus.subscribe(events.TaskTriggered, task_triggered)
    bus.subscribe(events.RunStopped, run_stopped)
    bus.subscribe(events.RunsDeleted, runs_deleted)


def task_added(event: events.TaskAdded) -> None:
    """Log an added or replaced run-time task as INFO."""
    done = "added or replaced" if event.replace else "added"
    _log_call(f"{done} at run time", event.task, event.by)


def task_removed(event: events.TaskRemoved) -> None:
    """Log a removed run-time task as INFO."""
    then = ", since its last fire time has passed" if event.done else ""
    _log_call("removed at run time", event.task, event.by, then=then)


def task_paused(event: events.TaskPaused) -> None:
    """Log a paused task as INFO."""
    until = "" if event.until is None else f" until {rfc3339(event.until)}"
    note = f" ({escape_control_characters(event.note)})" if event.note else ""
    _log_call("paused", event.task, event.by, then=until + note)


def task_resumed(event: events.TaskResumed) -> None:
    """Log a resumed task as INFO."""
    then = ", since the pause has ended" if event.ended else ""
    _log_call("resumed", event.task, event.by, then=then)


def task_triggered(event: events.TaskTriggered) -> None:
    """Log a manual run, or its refusal, as INFO."""
    run = event.run
    refused = "" if run is not None else ", and refused: its overlap policy permits no further run"
    facts = {"pulse_run_id": None if run is None else run.id}
    _log_call("triggered", event.task, event.by, then=refused, facts=facts)


def run_stopped(event: events.RunStopped) -> None:
    """Log a request to stop a run as INFO."""
    run = event.run
    then = f", run {run.id}"
    if run.outcome is not None:
        then = f"{then}, which has ended: {run.outcome.value}"
    elif event.note:
        then = f"{then} ({escape_control_characters(event.note)})"
    _log_call("asked to stop", run.task, event.by, then=then, facts={"pulse_run_id": run.id})


def runs_deleted(event: events.RunsDeleted) -> None:
    """Log deleted runs as INFO."""
    _log_call(f"deleted {event.number:,} {event.note}", event.task, event.by)


def _log_call(
    done: str, task: str, by: str, *, then: str = "", facts: Mapping[str, object] | None = None
) -> None:
    """Log a call of the handle: what was done, by whom if that is known, and the task."""
    who = f" by {escape_control_characters(by)}" if by else ""
    what = escape_control_characters(task) if task else "all tasks"
    text = f"{done}{who}: {what}{then} [pid {os.getpid()}]"
    log(logging.INFO, text, {"pulse_task": task, "pulse_by": by, **(facts or {})})
