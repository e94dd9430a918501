"""What forms do: run, pause, resume and stop; and the page that asks before."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec

from pulse.clock import SECOND, Instant, moment_of
from pulse.errors import (
    NotServingError,
    PulseError,
    StoreError,
    UnknownRunError,
    UnknownTaskError,
)
from pulse.store.steering import TaskState  # noqa: TC001 - likewise
from pulse.web.dashboard.other_pages import instant_in
from pulse.web.dashboard.requests import MOST_TASKS, TASK_ZONE, checked_zone, link_to
from pulse.web.dashboard.tasks_page import coming_fire, names_of, selected
from pulse.web.dashboard.texts import UTC, zone_of
from pulse.web.responses import HttpError
from pulse.web.views import RunView, view_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pulse.handle.handle import SchedulerHandle
    from pulse.handle.health import Overview
    from pulse.web.dashboard.requests import ActionForm, ConfirmParams

MOST_RUNS = 50
"""How many tasks are run by one action at most."""

_FORECAST = 24 * 3_600 * SECOND

TITLES = {
    "run": "Run now",
    "pause": "Pause",
    "resume": "Resume",
    "pause_all": "Pause all tasks",
    "resume_all": "Resume all tasks",
    "stop": "Stop the run",
}
"""What the button of each verb says."""


class ConfirmModel(msgspec.Struct, frozen=True, kw_only=True):
    """The page that asks before an action.

    Attributes:
        verb: what is to be done.
        title: what the button says.
        names: the tasks that it concerns; empty for all tasks, or for a run.
        is_filter: whether they are those of a filter.
        run: the run that is to be stopped.
        next_fire: when the task is due next, if it is one.
        zone: the time zone of the task.
        skipped: how many fire times the next 24 hours have, which a pause would skip.
        unfinished: the run of the task that is not finished, which may be in the way.
        body: whether another body may be sent.
        key: names the run that is to be made: a form that is sent twice makes one.
        is_over: whether the run that is to be stopped has ended.
        paused: whether the task is paused, or all tasks are.

    """

    verb: str
    title: str
    names: Sequence[str]
    is_filter: bool
    run: RunView | None
    next_fire: Instant | None
    zone: str
    skipped: int | None
    unfinished: RunView | None
    body: bool
    key: str
    is_over: bool
    paused: bool


def confirm_model(
    overview: Overview, handle: SchedulerHandle, params: ConfirmParams
) -> ConfirmModel:
    """Return the page that asks before an action, with its consequence.

    Raises:
        UnknownTaskError: no such task.
        UnknownRunError: no such run.
        HttpError: the filter selects no task, or too many.

    """
    run = handle.run(params.id) if params.verb == "stop" else None
    if params.verb == "stop" and run is None:
        raise UnknownRunError(f"expected the id of a run that is kept, got {params.id!r}")
    rows = _rows_of(overview, params)
    one = rows[0] if len(names_of(rows)) == 1 else None
    running = handle.runs(task=one.name, outcomes=["running", "pending"], limit=1) if one else []
    return ConfirmModel(
        verb=params.verb,
        title=TITLES[params.verb],
        names=names_of(rows),
        is_filter=not params.name and bool(rows),
        run=None if run is None else view_run(run),
        next_fire=None if one is None else one.next_fire,
        zone=UTC if one is None else zone_of(one.schedule),
        skipped=None if one is None else _fire_times(one, overview.health.at),
        unfinished=view_run(running[0]) if running else None,
        body=params.verb == "run" and one is not None,
        key=uuid4().hex,
        is_over=run is not None and run.outcome is not None,
        paused=overview.pause is not None or (one is not None and one.paused),
    )


def _rows_of(overview: Overview, params: ConfirmParams) -> list[TaskState]:
    if params.verb in {"stop", "pause_all", "resume_all"}:
        return []
    if params.name:
        rows = [row for row in overview.tasks if row.name == params.name]
        if not rows:
            raise UnknownTaskError(f"expected the name of a task, got {params.name!r}")
        return rows[:1]
    rows = selected(overview, params)
    most = MOST_RUNS if params.verb == "run" else MOST_TASKS
    if not 0 < len(names_of(rows)) <= most:
        raise HttpError(400, f"expected a filter that selects 1 to {most} tasks, got {len(rows)}")
    return rows


def _fire_times(row: TaskState, now: Instant) -> int | None:
    """Return how many fire times a row has in the next 24 hours; None if it has no next one."""
    coming = coming_fire(row, now)
    if coming is None:
        return None
    schedule, at = coming
    if at > now + _FORECAST:
        return 0
    return schedule.due(at, now + _FORECAST, anchor=row.anchor).count


def perform(
    handle: SchedulerHandle, form: ActionForm, who: str, changed: Callable[[], None]
) -> str:
    """Do what a form asks for; return the relative link of the page that is shown then.

    Args:
        handle: what is acted on.
        form: what is asked for.
        who: who asks.
        changed: is called once something was changed.

    Raises:
        HttpError: a field is wrong; a run is refused; or some of several tasks failed.
        PulseError: the only task, or the run, is unknown, or no process would run it.

    """
    link = link_to("", _done(form))
    match form.verb:
        case "stop":
            handle.stop(form.id, note=form.note or None, by=who)
            link = link_to("run", {"id": form.id, **_done(form)})
        case "pause_all":
            handle.pause_all(until=_until(form), note=form.note or None, by=who)
        case "resume_all":
            handle.resume_all(by=who)
        case "run" if len({*form.name}) == 1:
            link = _run_one(handle, form, who)
        case _:
            link = _each(handle, form, who, changed)
    changed()
    return link


def _done(form: ActionForm) -> dict[str, str]:
    """Return the parameters by which the next page says what was done, in the chosen zone."""
    return {"done": form.verb, "zone": "" if form.zone == TASK_ZONE else form.zone}


def _run_one(handle: SchedulerHandle, form: ActionForm, who: str) -> str:
    name, body = form.name[0], form.body if form.with_body else None
    made = handle.trigger(name, body=body, by=who, key=form.key or None)
    if made is None:
        raise HttpError(
            409, f"{name}: refused, since a run is unfinished and overlap permits no other"
        )
    return link_to("run", {"id": made.id, **_done(form)})


def _each(handle: SchedulerHandle, form: ActionForm, who: str, changed: Callable[[], None]) -> str:
    names = list(dict.fromkeys(form.name))
    most = MOST_RUNS if form.verb == "run" else MOST_TASKS
    if not 0 < len(names) <= most:
        raise HttpError(400, f"name: expected the names of 1 to {most} tasks, got {len(names)}")
    call = _call_of(handle, form, who)
    if len(names) == 1:
        call(names[0])
        return link_to("task", {"name": names[0], **_done(form)})
    refused: list[str] = []
    for number, name in enumerate(names):
        try:
            text = _refusal(call, name)
        except (StoreError, NotServingError) as error:  # the others would wait for it as well
            changed()
            done = number - len(refused)
            raise HttpError(503, f"{done} of {len(names)} done; {error}") from None
        refused += [text] if text else []
    if refused:
        changed()
        done = len(names) - len(refused)
        raise HttpError(409, f"{done} of {len(names)} done; {'; '.join(refused[:10])}")
    filters = {"q": form.q, "state": form.state or "", "sort": form.sort, "page": form.page}
    return link_to("", {**filters, **_done(form), "count": len(names)})


def _refusal(call: Callable[[str], bool | None], name: str) -> str:
    """Call for one of several tasks; return why it was refused, or an empty text."""
    try:
        done = call(name)
    except (StoreError, NotServingError):
        raise
    except PulseError as error:
        return " ".join(str(error).split())
    return f"{name}: a run is unfinished, and overlap permits no other" if done is False else ""


def _call_of(handle: SchedulerHandle, form: ActionForm, who: str) -> Callable[[str], bool | None]:
    """Return what is called for each task; False means that the task was refused."""
    until, note = _until(form), form.note or None

    def run(name: str) -> bool:
        return handle.trigger(name, by=who, key=form.key or None) is not None

    def pause(name: str) -> None:
        handle.pause(name, until=until, note=note, by=who)

    def resume(name: str) -> None:
        handle.resume(name, by=who)

    return {"run": run, "pause": pause, "resume": resume}[form.verb]


def _until(form: ActionForm) -> datetime | None:
    if not form.until:
        return None
    zone = checked_zone(form.until_zone)
    return moment_of(instant_in(form.until, UTC if zone == TASK_ZONE else zone, name="until"))
