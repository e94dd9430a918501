"""The jobs of an APScheduler 3 scheduler."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pulse.cli.convert.converted import Converted, task_name
from pulse.clock import SECOND, instant_of, rfc3339, span_of
from pulse.errors import ConfigError, shown
from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.clock import Instant, Span

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_POSITIONS = {"1st": "#1", "2nd": "#2", "3rd": "#3", "4th": "#4", "5th": "#5", "last": "L"}
_NUMBERS = {"mon": "1", "tue": "2", "wed": "3", "thu": "4", "fri": "5", "sat": "6", "sun": "0"}
_JUST_NOW: Span = 60 * SECOND
_CRON = ("minute", "hour", "day", "month", "day_of_week")


def convert_jobs(scheduler: Any, *, now: Instant) -> Iterator[Converted]:  # noqa: ANN401 - an object of a package that is not imported
    """Yield what each job of a scheduler becomes.

    Raises:
        ConfigError: *scheduler* is no scheduler of APScheduler 3.

    """
    if not callable(getattr(scheduler, "get_jobs", None)):
        raise ConfigError([f"expected a scheduler of APScheduler 3, got {shown(scheduler)}"])
    for job in scheduler.get_jobs():
        yield _job(job, now)


def _job(job: Any, now: Instant) -> Converted:  # noqa: ANN401 - see above
    called = str(getattr(job, "func_ref", None) or getattr(job, "func", ""))
    name = task_name(str(getattr(job, "name", "") or job.id))
    if not re.fullmatch(r"[0-9a-f]{32}", str(job.id)):
        name = task_name(str(job.id))
    source = f"{job.id}: {called}, {job.trigger!r}"
    made = _schedule(job.trigger, now)
    if isinstance(made, str):
        return Converted(name, source, {}, [made])
    settings = {"action": f"/tasks/{name}"} | made
    arguments = {key: value for key in ("args", "kwargs") if (value := getattr(job, key, None))}
    if arguments:
        settings |= {"method": "POST", "body": json.dumps(arguments, default=str)}
    notes = _policies(job, settings)
    return Converted(name, source, settings, notes)


def _policies(job: Any, settings: dict[str, str]) -> list[str]:  # noqa: ANN401 - see above
    """Add the settings of the job's policies; return what has no counterpart."""
    notes = []
    most = getattr(job, "max_instances", 1)
    if most > 1:
        settings |= {"overlap": "allow", "max_running": str(most)}
    grace = getattr(job, "misfire_grace_time", None)
    # One second is what a scheduler sets for a job that says nothing.
    if grace is not None and grace > 1:
        settings |= {"misfire": "skip", "grace": duration_text(round(grace * SECOND))}
    elif getattr(job, "coalesce", True) is False:
        settings["misfire"] = "all"
    jitter = getattr(job.trigger, "jitter", None)
    if jitter:
        settings["jitter"] = duration_text(round(jitter * SECOND))
        notes.append("jitter: pulse only delays, APScheduler also runs earlier")
    if "at" in settings:
        notes.append("a date: the task stays after its run, and is shown as ended")
    return notes


def _schedule(trigger: Any, now: Instant) -> dict[str, str] | str:  # noqa: ANN401 - see above
    """Return the settings of a trigger, or why there are none."""
    match type(trigger).__name__:
        case "IntervalTrigger":
            length = span_of(trigger.interval)
            start = trigger.start_date
            # Without a start date a trigger counts from when it was made, just before.
            is_own = start is None or abs(instant_of(start) - length - now) < _JUST_NOW
            made = {"interval": duration_text(length)}
            return made | _bounds(trigger, with_start=not is_own)
        case "DateTrigger":
            return {"at": rfc3339(instant_of(trigger.run_date))}
        case "CronTrigger":
            return _cron(trigger)
        case kind:
            return f"{kind}: write a task for each of its parts, or a schedule of pulse"


def _bounds(trigger: Any, *, with_start: bool) -> dict[str, str]:  # noqa: ANN401 - see above
    names = (("start", "start_date"), ("end", "end_date"))
    return {
        name: rfc3339(instant_of(at))
        for name, attribute in names
        if (at := getattr(trigger, attribute, None)) is not None and (with_start or name == "end")
    }


def _cron(trigger: Any) -> dict[str, str] | str:  # noqa: ANN401 - see above
    fields = {field.name: str(field) for field in trigger.fields}
    for name in ("year", "week"):
        if fields[name] != "*":
            return f"{name} = {fields[name]}: no field has it; see start, end and every"
    days = [_day(part) for part in fields["day_of_week"].split(",")]
    position = fields["day"].split()
    if len(position) > 1:  # such as `last fri`
        fields["day"] = "*"
        days = [f"{_NUMBERS[position[1]]}{_POSITIONS[position[0]]}"]
    elif fields["day"] == "last":
        fields["day"] = "L"
    elif fields["day"] != "*" and fields["day_of_week"] != "*":
        return "day and day_of_week: APScheduler requires both to match, cron either"
    fields["day_of_week"] = ",".join(days)
    expression = " ".join(fields[name] for name in _CRON)
    if fields["second"] != "0":
        expression = f"{fields['second']} {expression}"
    made = {"cron": expression, "timezone": str(trigger.timezone)}
    return made | _bounds(trigger, with_start=trigger.start_date is not None)


def _day(part: str) -> str:
    """Return a part of the day of the week; numbers count from Monday = 0 in APScheduler."""
    base, slash, step = part.partition("/")
    named = "-".join(_DAYS[int(word)] if word.isdigit() else word for word in base.split("-"))
    return f"{named}{slash}{step}"
