"""The `beat_schedule` of a Celery application."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pulse.cli.convert.converted import Converted, task_name
from pulse.clock import SECOND
from pulse.errors import ConfigError, shown
from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


def convert_beat(app: Any) -> Iterator[Converted]:  # noqa: ANN401 - an object of a package that is not imported
    """Yield what each entry of a Celery application's `beat_schedule` becomes.

    Raises:
        ConfigError: *app* is no Celery application.

    """
    conf = getattr(app, "conf", None)
    entries = getattr(conf, "beat_schedule", None)
    if entries is None:
        raise ConfigError(
            [f"expected a Celery application with conf.beat_schedule, got {shown(app)}"]
        )
    zone = str(getattr(conf, "timezone", None) or "UTC")
    for name, entry in entries.items():
        yield _entry(str(name), entry, zone)


def _entry(name: str, entry: Mapping[str, Any], zone: str) -> Converted:
    schedule, task = entry.get("schedule"), str(entry.get("task", ""))
    source = f"{name}: {task}, {schedule!r}"
    settings = {"action": f"/tasks/{task.replace('.', '/')}"}
    made = _schedule(schedule, zone)
    if isinstance(made, str):
        return Converted(task_name(name), source, {}, [made])
    settings |= made
    arguments = {key: entry[key] for key in ("args", "kwargs") if entry.get(key)}
    if arguments:
        settings |= {"method": "POST", "body": json.dumps(arguments, default=str)}
    options, notes = dict(entry.get("options") or {}), []
    expires = options.pop("expires", None)
    if isinstance(expires, int | float) and not isinstance(expires, bool):
        settings |= {"misfire": "skip", "grace": duration_text(round(expires * SECOND))}
    elif expires is not None:
        notes.append(f"options expires = {expires!r}: set misfire = skip and grace")
    notes += [
        f"options {key} = {value!r}: the first free worker runs it"
        for key, value in options.items()
    ]
    if entry.get("relative"):
        notes.append("relative: intervals are counted from when the store first sees the task")
    return Converted(task_name(name), source, settings, notes)


def _schedule(schedule: Any, zone: str) -> dict[str, str] | str:  # noqa: ANN401 - see above
    """Return the settings of a schedule, or why there are none."""
    kind = type(schedule).__name__
    if isinstance(schedule, int | float) and not isinstance(schedule, bool):
        return {"interval": duration_text(round(schedule * SECOND))}
    if isinstance(schedule, timedelta):
        return {"interval": duration_text(round(schedule.total_seconds() * SECOND))}
    if kind == "schedule":
        return _schedule(schedule.run_every, zone)
    if kind == "solar":
        return "solar: let an hourly task check whether the sun has set"
    if kind != "crontab":
        return f"{kind}: a schedule of your own class; write a task that checks it"
    fields = [str(getattr(schedule, f"_orig_{name}")).replace(" ", "") for name in _FIELDS]
    if fields[2] != "*" and fields[4] != "*":
        return (
            "day_of_month and day_of_week: Celery requires both to match, cron either; use a form"
            " such as mon#1 for the first Monday"
        )
    return {"cron": " ".join(fields), "timezone": zone}
