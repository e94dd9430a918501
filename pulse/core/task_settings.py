"""The settings of a task: a table of names, types, defaults and help.

The ini keys `pulse.task.<name>.*`, the keywords of `Task`, the errors and the reference page are
generated from the table.
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
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise BadValueError(expected, value)
    path = text.partition("?")[0]
    if "://" in path or path.startswith("//"):
        raise BadValueError(f"{expected} without scheme and host", value)
    if not text.isprintable() or " " in text:
        raise BadValueError(f"{expected} without blanks (write %20, in an ini file %%20)", value)
    if not path:
        raise BadValueError(f"{expected} before the query", value)
    if "#" in text:
        raise BadValueError(f"{expected} without a fragment", value)
    if "." in path and not {".", ".."}.isdisjoint(path.split("/")):
        raise BadValueError(f"{expected} without dot segments", value)
    return text


TASK_SETTINGS = table(
    Setting(
        name="action",
        convert=action,
        kind="path",
        default="required",
        help="The path to request: relative to the context, or absolute if it starts with a slash.",
        example="cleanup",
    ),
    Setting(
        name="interval",
        convert=converters.duration,
        kind="duration",
        default="one of these four",
        help="The time between two fire times; restarts do not shift later fire times.",
        example="5m",
    ),
    Setting(
        name="cron",
        convert=schedule_converters.cron,
        kind="cron expression",
        default="one of these four",
        help="The times of day and dates of the runs: five fields, or six with seconds first.",
        example="0 7 * * mon-fri",
    ),
    Setting(
        name="every",
        convert=schedule_converters.every,
        kind="days, weeks, months or years",
        default="one of these four",
        help="The calendar period between two fire times, at one time of day in the zone.",
        example="1 month",
    ),
    Setting(
        name="at",
        convert=schedule_converters.moment,
        kind="date and time",
        default="one of these four",
        help="The single fire time of a task that runs once.",
        example="2027-01-01T00:00:00+01:00",
    ),
    Setting(
        name="timezone",
        convert=schedule_converters.zone,
        kind="time zone",
        default="UTC, or pulse.config.timezone",
        help="The zone of the cron expression, the calendar period, and dates without offset.",
        example="Europe/Berlin",
    ),
    Setting(
        name="start",
        convert=schedule_converters.moment,
        kind="date and time",
        default="one period after the task is first seen; cron: at once",
        help="The first fire time, from which periods are counted; cron: the earliest fire time.",
        example="2027-01-01T00:00:00+01:00",
    ),
    Setting(
        name="end",
        convert=schedule_converters.moment,
        kind="date and time",
        default="never",
        help="The latest possible fire time.",
        example="2027-12-31T23:59:59+01:00",
    ),
    Setting(
        name="jitter",
        convert=converters.duration_or_zero,
        kind="duration",
        default="0s",
        help="The maximum delay of a tick after its fire time; it ends before the next fire time.",
        example="30s",
    ),
    Setting(
        name="run_at_start",
        convert=converters.boolean,
        kind="boolean",
        default="false",
        help="Whether the task runs once when the store first sees it; not at restarts.",
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
        help="Headers of the request; ${NAME} is replaced by an environment variable.",
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
        default="180s, or pulse.config.timeout",
        help="How long a run may take before it is timed out; the mode decides what it can stop.",
        example="30s",
    ),
    Setting(
        name="overlap",
        convert=converters.choice(Overlap),
        kind="skip, wait or allow",
        default="skip",
        help="The policy for a tick that is due while a run of the task is unfinished.",
        example="skip",
    ),
    Setting(
        name="max_running",
        convert=converters.count(1, 1_000),
        kind="number",
        default="10",
        help="The maximum number of concurrent runs of the task with overlap = allow.",
        example="4",
    ),
    Setting(
        name="misfire",
        convert=converters.choice(Misfire),
        kind="latest, skip or all",
        default="latest",
        help="Which fire times run after a time in which no process could run them.",
        example="all",
    ),
    Setting(
        name="grace",
        convert=converters.duration_or_zero,
        kind="duration",
        default="60s with misfire = skip, else unlimited",
        help="How late a run may start; a later tick is recorded as missed.",
        example="10m",
    ),
    Setting(
        name="scope",
        convert=converters.choice(Scope),
        kind="fleet, host or process",
        default="fleet",
        help="Where each tick runs once: in the whole fleet, on each host, or in each process.",
        example="process",
    ),
    Setting(
        name="on_abandoned",
        convert=converters.choice(OnAbandoned),
        kind="record or rerun",
        default="record",
        help="The policy for a run whose process died: only record the run, or attempt it again.",
        example="rerun",
    ),
    Setting(
        name="retries",
        convert=converters.count(0, 100),
        kind="number",
        default="0",
        help="How many times a failed run is retried, at the latest before the next tick.",
        example="3",
    ),
    Setting(
        name="retry_min_backoff",
        convert=converters.duration,
        kind="duration",
        default="5s",
        help="The wait before the first retry; each wait is extended at random by up to a quarter.",
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
        help="How many times the wait doubles before it grows by equal steps.",
        example="3",
    ),
    Setting(
        name="enabled",
        convert=converters.boolean,
        kind="boolean",
        default="true",
        help="Whether the task is scheduled; a disabled task is only validated.",
        example="false",
    ),
)
