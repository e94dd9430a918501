"""The commands that change something: trigger, pause, resume and stop."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.cli.answers import Answer
from pulse.cli.moments import moment_in, shown_second, zone_of_task
from pulse.cli.read import answer_of_run, find_run
from pulse.clock import SECOND, SystemClock, moment_of
from pulse.core.run import Outcome
from pulse.errors import ConfigError
from pulse.log.format import span_text
from pulse.web.views import view_pause, view_run

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from pulse.handle.handle import SchedulerHandle

FAILED, REFUSED, TIMED_OUT = 1, 5, 124


def who(options: argparse.Namespace) -> str | None:
    """Return who asks: the option, or the user of the process."""
    if options.by is not None:
        return str(options.by)
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user has no name, as in a container
        return None


def trigger(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """Run a task once, in the process of the server that claims it first."""
    run = handle.trigger(options.task, body=body_of(options), by=who(options))
    if run is None:
        return Answer({"run": None}, (), [refusal_of(options.task)], REFUSED)
    if options.wait is None:
        line = f"triggered: {options.task}, run {run.id}"
        return Answer({"run": view_run(run)}, (), [line])
    limit = options.wait / SECOND if options.wait else None
    ended = handle.wait(run, timeout=limit)
    if ended.outcome is None:
        status = TIMED_OUT
    else:
        status = 0 if ended.outcome is Outcome.SUCCEEDED else FAILED
    return answer_of_run(handle, ended, status=status)


def refusal_of(task: str) -> str:
    """Return the sentence for a run that overlap refuses."""
    return (
        f"{task}: refused, since a run is unfinished and overlap permits no other; pulse runs"
        f" {task} --outcome running shows it"
    )


def body_of(options: argparse.Namespace) -> bytes | None:
    """Return the body that the options give, to replace that of the task."""
    if options.body is not None and options.body_file is not None:
        raise ConfigError(["--body: expected one of --body and --body-file, got both"])
    if options.body_file is None:
        return None if options.body is None else str(options.body).encode()
    if options.body_file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(options.body_file).read_bytes()
    except OSError as error:
        raise ConfigError([f"--body-file: expected a file to read, got {error}"]) from None


def pause(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """Pause a task, or all of them."""
    _one_or_all(options)
    until = _until(handle, options)
    if options.all:
        handle.pause_all(until=until, note=options.note, by=who(options))
        found = handle.pause_of_all()
    else:
        handle.pause(options.task, until=until, note=options.note, by=who(options))
        found = handle.task(options.task).pause
    name = "all tasks" if options.all else options.task
    end = "" if found is None or found.until is None else shown_second(found.until, "UTC")
    line = f"paused: {name}" + (f" until {end}" if end else "")
    return Answer({"task": options.task, "pause": view_pause(found)}, (), [line])


def _until(handle: SchedulerHandle, options: argparse.Namespace) -> datetime | None:
    if options.length is not None and options.until is not None:
        raise ConfigError(["--until: expected one of --until and --for, got both"])
    now = SystemClock().wall()
    if options.length is not None:
        return moment_of(now + options.length)
    if options.until is None:
        return None
    zone = "UTC"
    if not options.all:
        zone = zone_of_task(handle.task(options.task))
    return moment_of(moment_in(options.until, zone, now=now))


def _one_or_all(options: argparse.Namespace) -> None:
    if options.all == (options.task is not None):
        got = f"{options.task} and --all" if options.all else "neither"
        raise ConfigError([f"TASK: expected the name of a task or --all, got {got}"])


def resume(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """Resume a task, or end the pause of all tasks."""
    _one_or_all(options)
    if options.all:
        handle.resume_all(by=who(options))
        still = sorted({state.name for state in handle.tasks() if state.paused})
        lines = ["resumed: all tasks"]
        if still:
            lines.append(f"still paused by their own names: {', '.join(still)}")
        return Answer({"task": None, "still_paused": still}, (), lines)
    was_paused = handle.task(options.task).paused
    handle.resume(options.task, by=who(options))
    lines = [f"resumed: {options.task}" if was_paused else f"{options.task} was not paused"]
    if handle.pause_of_all() is not None:
        lines.append("all tasks are paused: pulse resume --all ends that pause")
    return Answer({"task": options.task, "still_paused": []}, (), lines)


def stop(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """Stop a run that waits or is in progress."""
    run = find_run(handle, options.run)
    if run.outcome is not None:
        line = f"run {run.id} has ended already: {run.outcome.value}"
        return Answer({"run": view_run(run)}, (), [line])
    asked = handle.stop(run, note=options.note, by=who(options))
    ended = handle.wait(asked, timeout=options.wait / SECOND)
    if ended.outcome is None:
        text = f"asked, and still in progress after {span_text(options.wait)}: run {run.id}"
        return Answer({"run": view_run(ended)}, (), [text], TIMED_OUT)
    return Answer({"run": view_run(ended)}, (), [f"run {run.id}: {ended.outcome.value}"])
