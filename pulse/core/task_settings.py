"""The settings of a task: one table of names, types, defaults and help.

It is the single source: the ini keys `pulse.task.<name>.*`, the keywords of `Task`, the errors and
the reference page are made from it.
"""

from __future__ import annotations

from pulse.core.policies import Misfire, OnAbandoned, Overlap, Scope
from pulse.errors import BadValueError
from pulse.schedule import converters as schedule_converters
from pulse.settings import converters
from pulse.settings.setting import Setting, table


def action(value: object) -> str:
    """Return a path, relative to the context or absolute, with an optional query."""
    expected = "a path such as cleanup or /sessions/cleanup"
    word = value.strip() if isinstance(value, str) else ""
    if not word:
        raise BadValueError(expected, value)
    path = word.partition("?")[0]
    if "://" in path or path.startswith("//"):
        raise BadValueError(f"{expected} without scheme and host", value)
    if not word.isprintable() or " " in word:
        raise BadValueError(f"{expected} without blanks (write %20, in an ini file %%20)", value)
    if not path:
        raise BadValueError(f"{expected} before the query", value)
    if "#" in word:
        raise BadValueError(f"{expected} without a fragment", value)
    if "." in path and not {".", ".."}.isdisjoint(path.split("/")):
        raise BadValueError(f"{expected} without dot segments", value)
    return word


TASK_SETTINGS = table(
    Setting(
        name="action",
        convert=action,
        kind="path",
        default="required",
        help="The path to request: below the context, or absolute when it starts with a slash.",
        example="cleanup",
    ),
    Setting(
        name="interval",
        convert=converters.duration,
        kind="duration",
        default="one of these four",
        help="The time from one fire time to the next, on a grid that restarts do not shift.",
        example="5m",
    ),
    Setting(
        name="cron",
        convert=schedule_converters.cron,
        kind="cron expression",
        default="one of these four",
        help="The times of day and dates to run at: five fields, or six with seconds first.",
        example="0 7 * * mon-fri",
    ),
    Setting(
        name="every",
        convert=schedule_converters.every,
        kind="days, weeks, months or years",
        default="one of these four",
        help="The calendar time from one fire time to the next, at one time of day in the zone.",
        example="1 month",
    ),
    Setting(
        name="at",
        convert=schedule_converters.moment,
        kind="date and time",
        default="one of these four",
        help="The one fire time of a task that runs a single time.",
        example="2027-01-01T00:00:00+01:00",
    ),
    Setting(
        name="timezone",
        convert=schedule_converters.zone,
        kind="time zone",
        default="UTC, or what pulse.config.timezone says",
        help="The zone of the cron expression, the calendar, and of dates without offset.",
        example="Europe/Berlin",
    ),
    Setting(
        name="start",
        convert=schedule_converters.moment,
        kind="date and time",
        default="one period after the task is first seen; cron: at once",
        help="The first fire time, from which the grid counts; cron: none is before it.",
        example="2027-01-01T00:00:00+01:00",
    ),
    Setting(
        name="end",
        convert=schedule_converters.moment,
        kind="date and time",
        default="never",
        help="No fire time is after it.",
        example="2027-12-31T23:59:59+01:00",
    ),
    Setting(
        name="jitter",
        convert=converters.duration_or_zero,
        kind="duration",
        default="0s",
        help="How much later than its fire time a tick may be due; always before the next one.",
        example="30s",
    ),
    Setting(
        name="run_at_start",
        convert=converters.boolean,
        kind="boolean",
        default="false",
        help="Run the task once when the store first sees it; not at restarts.",
        example="true",
    ),
    Setting(
        name="method",
        convert=converters.method,
        kind="HTTP method",
        default="GET",
        help="The method of the request.",
        example="POST",
    ),
    Setting(
        name="headers",
        convert=converters.headers,
        kind="lines of Name: value",
        default="none",
        help="Headers of the request; ${NAME} stands for an environment variable.",
        example="Authorization: Bearer ${CRON_TOKEN}",
    ),
    Setting(
        name="body",
        convert=converters.body,
        kind="text",
        default="empty",
        help="The body of the request.",
        example='{"full": true}',
    ),
    Setting(
        name="timeout",
        convert=converters.duration,
        kind="duration",
        default="180s, or what pulse.config.timeout says",
        help="How long a run may take before it is timed out; each mode stops what it can.",
        example="30s",
    ),
    Setting(
        name="overlap",
        convert=converters.choice(Overlap),
        kind="skip, wait or allow",
        default="skip",
        help="What becomes of a tick that is due while a run of the task is still going.",
        example="skip",
    ),
    Setting(
        name="max_running",
        convert=converters.count(1, 1_000),
        kind="number",
        default="10",
        help="How many runs of the task may go at once under overlap = allow.",
        example="4",
    ),
    Setting(
        name="misfire",
        convert=converters.choice(Misfire),
        kind="latest, skip or all",
        default="latest",
        help="Which of the fire times that were passed over are run when there is time again.",
        example="all",
    ),
    Setting(
        name="grace",
        convert=converters.duration_or_zero,
        kind="duration",
        default="60s under misfire = skip, else unlimited",
        help="How late a run may start; a tick that is later is recorded as missed.",
        example="10m",
    ),
    Setting(
        name="scope",
        convert=converters.choice(Scope),
        kind="fleet, host or process",
        default="fleet",
        help="How far once reaches: one run a tick in the fleet, on each host or in each process.",
        example="process",
    ),
    Setting(
        name="on_abandoned",
        convert=converters.choice(OnAbandoned),
        kind="record or rerun",
        default="record",
        help="What becomes of a run whose process died: a row that says so, or another attempt.",
        example="rerun",
    ),
    Setting(
        name="retries",
        convert=converters.count(0, 100),
        kind="number",
        default="0",
        help="How often a failed run is tried again, before the next tick at the latest.",
        example="3",
    ),
    Setting(
        name="retry_min_backoff",
        convert=converters.duration,
        kind="duration",
        default="5s",
        help="The wait before the first retry; each is made up to a quarter longer at random.",
        example="30s",
    ),
    Setting(
        name="retry_max_backoff",
        convert=converters.duration,
        kind="duration",
        default="1h",
        help="The longest wait before a retry.",
        example="10m",
    ),
    Setting(
        name="retry_max_doublings",
        convert=converters.count(0, 60),
        kind="number",
        default="5",
        help="How often the wait doubles before it grows by equal steps.",
        example="3",
    ),
    Setting(
        name="enabled",
        convert=converters.boolean,
        kind="boolean",
        default="true",
        help="Whether the task is scheduled at all; a disabled one is checked and left out.",
        example="false",
    ),
)
