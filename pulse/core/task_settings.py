"""The settings of a task: the public declaration `Task`, and the table that is derived from it.

Each field of `Task` declares one setting: the keyword, the ini key `pulse.task.<name>.<key>`, the
converter, the default, and the texts of errors and of the reference page. `TASK_SETTINGS` is
derived from the fields. `explicit_values` and `read_task` lead from a task to exact values,
`to_settings` leads back to text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - `table_of` reads the annotations
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import msgspec

from pulse.clock import SECOND, Span
from pulse.core.action import read_action
from pulse.core.policies import Misfire, OnAbandoned, Overlap, Scope
from pulse.errors import ConfigError
from pulse.schedule import converters as schedule_converters
from pulse.schedule.factory import KINDS, schedule_problems
from pulse.settings import converters
from pulse.settings.setting import Setting, read, table_of, unknown_key

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_TIMEOUT: Span = 180 * SECOND

Duration = float | str | timedelta
"""A duration as users give it: seconds, text such as `5m`, or a timedelta."""

ONE_OF_FOUR = "one of these four"


class _TaskType(type(msgspec.Struct)):  # type: ignore[misc] # msgspec does not export the class
    """The class of `Task`, whose call names the setting that an unknown keyword means."""

    def __call__(cls, *arguments: object, **keywords: object) -> Any:  # noqa: ANN401 - a Task
        try:
            return super().__call__(*arguments, **keywords)
        except TypeError as error:
            unknown = [name for name in keywords if name not in cls.__struct_fields__]
            if not unknown:
                raise TypeError(f"Task: {error}") from None
        problems = [unknown_key("Task: ", name, cls.__struct_fields__) for name in unknown]
        raise TypeError("\n".join(problems))


class Task(msgspec.Struct, frozen=True, kw_only=True, metaclass=_TaskType):
    """A declared task: what to request, when, and how to behave when things do not go as planned.

    Every keyword takes what the ini setting of the same name takes, and the natural Python value:
    durations are seconds, text such as `"5m"` or a timedelta; dates are aware datetimes, or naive
    ones of the task's time zone. One of `interval`, `cron`, `every` and `at` is the schedule.

    Raises:
        ConfigError: a keyword has a bad value, or there is not exactly one schedule; all problems
            are named.

    """

    action: Annotated[
        str,
        Setting(
            convert=read_action,
            kind="path",
            default="required",
            help=(
                "The path to request: relative to the context, or absolute if it starts with a"
                " slash."
            ),
            example="cleanup",
        ),
    ]
    interval: Annotated[
        Duration | None,
        Setting(
            convert=converters.interval,
            kind="duration of at least 1ms",
            is_span=True,
            default=ONE_OF_FOUR,
            help="The time between two fire times; restarts do not shift later fire times.",
            example="5m",
        ),
    ] = None
    cron: Annotated[
        str | None,
        Setting(
            convert=schedule_converters.cron,
            kind="cron expression",
            default=ONE_OF_FOUR,
            help="The times of day and dates of the runs: five fields, or six with seconds first.",
            example="0 7 * * mon-fri",
        ),
    ] = None
    every: Annotated[
        str | None,
        Setting(
            convert=schedule_converters.every,
            kind="days, weeks, months or years",
            default=ONE_OF_FOUR,
            help="The calendar period between two fire times, at one time of day in the zone.",
            example="1 month",
        ),
    ] = None
    at: Annotated[
        datetime | str | None,
        Setting(
            convert=schedule_converters.moment,
            kind="date and time",
            default=ONE_OF_FOUR,
            help="The single fire time of a task that runs once.",
            example="2027-01-01T00:00:00+01:00",
        ),
    ] = None
    timezone: Annotated[
        str | None,
        Setting(
            convert=schedule_converters.zone,
            kind="time zone",
            default="UTC, or pulse.config.timezone",
            help="The zone of the cron expression, the calendar period, and dates without offset.",
            example="Europe/Berlin",
        ),
    ] = None
    start: Annotated[
        datetime | str | None,
        Setting(
            convert=schedule_converters.moment,
            kind="date and time",
            default="one period after the task is first seen; cron: at once",
            help=(
                "The first fire time, from which periods are counted; cron: the earliest fire time."
            ),
            example="2027-01-01T00:00:00+01:00",
        ),
    ] = None
    end: Annotated[
        datetime | str | None,
        Setting(
            convert=schedule_converters.moment,
            kind="date and time",
            default="never",
            help="The latest possible fire time.",
            example="2027-12-31T23:59:59+01:00",
        ),
    ] = None
    jitter: Annotated[
        Duration,
        Setting(
            convert=converters.duration_or_zero,
            kind="duration",
            is_span=True,
            help=(
                "The maximum delay of a tick, which ends before the next fire time; with scope ="
                " host or process each has its own."
            ),
            example="30s",
        ),
    ] = 0
    run_at_start: Annotated[
        bool | str,
        Setting(
            convert=converters.boolean,
            kind="boolean",
            help="Whether the task runs once when the store first sees it; not at restarts.",
            example="true",
        ),
    ] = False
    method: Annotated[
        str,
        Setting(
            convert=converters.method,
            kind="HTTP method",
            help="The method of the request.",
            example="POST",
        ),
    ] = "GET"
    headers: Annotated[
        Mapping[str, str] | Sequence[tuple[str, str]] | str,
        Setting(
            convert=converters.headers,
            is_secret=True,
            kind="lines of Name: value",
            default="none",
            help="Headers of the request; ${NAME} is replaced by an environment variable.",
            example="Authorization: Bearer ${CRON_TOKEN}",
        ),
    ] = ()
    body: Annotated[
        bytes | str,
        Setting(
            convert=converters.body,
            kind="text",
            is_raw=True,
            is_secret=True,
            default="empty",
            help="The body of the request.",
            example='{"full": true}',
        ),
    ] = b""
    timeout: Annotated[
        Duration | None,
        Setting(
            convert=converters.timeout,
            kind="duration of at least 1ms",
            is_span=True,
            fallback=DEFAULT_TIMEOUT,
            default="180s, or pulse.config.timeout",
            help=(
                "How long a run may take before it is timed out; the mode decides what it can stop."
            ),
            example="30s",
        ),
    ] = None
    overlap: Annotated[
        Overlap | str,
        Setting(
            convert=converters.choice(Overlap),
            kind="skip, wait or allow",
            help="The policy for a tick that is due while a run of the task is unfinished.",
            example="skip",
        ),
    ] = Overlap.SKIP
    max_running: Annotated[
        int | str,
        Setting(
            convert=converters.count(1, 1_000),
            kind="number",
            help="The maximum number of concurrent runs of the task with overlap = allow.",
            example="4",
        ),
    ] = 10
    misfire: Annotated[
        Misfire | str,
        Setting(
            convert=converters.choice(Misfire),
            kind="latest, skip or all",
            help="Which fire times run after a time in which no process could run them.",
            example="all",
        ),
    ] = Misfire.LATEST
    grace: Annotated[
        Duration | None,
        Setting(
            convert=converters.duration_or_zero,
            kind="duration",
            is_span=True,
            default="60s with misfire = skip, else unlimited",
            help="How late a run may start; a later tick is recorded as missed.",
            example="10m",
        ),
    ] = None
    scope: Annotated[
        Scope | str,
        Setting(
            convert=converters.choice(Scope),
            kind="fleet, host or process",
            help="Where each tick runs once: in the whole fleet, on each host, or in each process.",
            example="process",
        ),
    ] = Scope.FLEET
    on_abandoned: Annotated[
        OnAbandoned | str,
        Setting(
            convert=converters.choice(OnAbandoned),
            kind="record or rerun",
            help=(
                "The policy for a run whose process died: only record the run, or attempt it again."
            ),
            example="rerun",
        ),
    ] = OnAbandoned.RECORD
    retries: Annotated[
        int | str,
        Setting(
            convert=converters.count(0, 100),
            kind="number",
            help="How many times a failed run is retried, at the latest before the next tick.",
            example="3",
        ),
    ] = 0
    retry_min_backoff: Annotated[
        Duration | None,
        Setting(
            convert=converters.duration,
            kind="duration",
            is_span=True,
            fallback=5 * SECOND,
            help=(
                "The wait before the first retry; each wait is extended at random by up to a"
                " quarter."
            ),
            example="30s",
        ),
    ] = None
    retry_max_backoff: Annotated[
        Duration | None,
        Setting(
            convert=converters.duration,
            kind="duration",
            is_span=True,
            fallback=3_600 * SECOND,
            help="The longest wait before a retry.",
            example="10m",
        ),
    ] = None
    retry_max_doublings: Annotated[
        int | str,
        Setting(
            convert=converters.count(0, 60),
            kind="number",
            help="How many times the wait doubles before it grows by equal steps.",
            example="3",
        ),
    ] = 5
    queue: Annotated[
        str | None,
        Setting(
            convert=converters.queue,
            kind="name",
            default="pulse.config.queue",
            help="The queue whose workers execute the task, with mode = celery.",
            example="slow",
        ),
    ] = None
    remove_when_done: Annotated[
        bool | str,
        Setting(
            convert=converters.boolean,
            kind="boolean",
            help=(
                "Whether a task that was added at run time is removed after its last fire time, as"
                " with at or end. A configured task stays as long as it is declared."
            ),
            example="true",
        ),
    ] = False
    enabled: Annotated[
        bool | str,
        Setting(
            convert=converters.boolean,
            kind="boolean",
            help="Whether the task is scheduled; a disabled task is only validated.",
            example="false",
        ),
    ] = True

    def __post_init__(self) -> None:
        """Raise a ConfigError that names all invalid values."""
        _, problems = read_task(explicit_values(self))
        if problems:
            raise ConfigError(problems)


TASK_SETTINGS = table_of(Task)
"""The settings of a task, in the order of the fields of `Task`."""

# The signature of `Task`, in `help()` and on the reference page, shows the types alone.
Task.__annotations__ = get_type_hints(Task)


def fallback_of(setting: str) -> Any:  # noqa: ANN401 - a value of any setting
    """Return the exact value of a setting that is not given; None if there is none."""
    return TASK_SETTINGS[setting].fallback


_OPTIONAL = Task.__struct_fields__[1:]
_DEFAULTS: tuple[object, ...] = Task.__struct_defaults__
_PLAIN = _DEFAULTS[1:]
_SIMPLEST = {"action", "interval"}


def explicit_values(task: Task) -> dict[str, object]:
    """Return the keywords of *task* that differ from their defaults."""
    values = msgspec.structs.astuple(task)
    # The fast path for the most frequent declaration: 100,000 tasks may be declared at once.
    if values[2:] == _PLAIN and values[1] is not None:
        return {"action": values[0], "interval": values[1]}
    options = zip(_OPTIONAL, values[1:], _DEFAULTS, strict=True)
    changed = {name: value for name, value, default in options if value is not default}
    return {"action": values[0], **changed}


def read_task(given: Mapping[str, object], *, prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return the exact values of the settings of a task, and one sentence for each problem."""
    values, problems = read(TASK_SETTINGS, given, prefix=prefix)
    if given.keys() != _SIMPLEST:
        problems += _missing(given, values, problems, prefix)
        problems += _inconsistent_backoff(values, prefix)
    return values, problems


def _inconsistent_backoff(values: Mapping[str, Any], prefix: str) -> list[str]:
    """Return a problem if the shortest wait before a retry is longer than the longest."""
    shortest = values.get("retry_min_backoff", fallback_of("retry_min_backoff"))
    longest = values.get("retry_max_backoff", fallback_of("retry_max_backoff"))
    if shortest <= longest:
        return []
    least, got = converters.duration_text(shortest), converters.duration_text(longest)
    return [f"{prefix}retry_max_backoff: expected at least retry_min_backoff, {least}, got {got}"]


def _missing(
    given: Mapping[str, object], values: Mapping[str, Any], problems: list[str], prefix: str
) -> list[str]:
    """Return problems for missing settings, and for settings of the schedule that conflict.

    A setting is not missing if a misspelling of it was reported.
    """
    missing = []
    if "action" not in given and not _meant_names(["action"], problems):
        missing.append(f"{prefix}action: expected a path such as cleanup, got none")
    if KINDS.isdisjoint(given) and _meant_names(KINDS, problems):
        return missing
    # A setting with an invalid value counts as given.
    known_values = {name: values.get(name) for name in given}
    return missing + schedule_problems(known_values, prefix=prefix)


def _meant_names(names: Iterable[str], problems: list[str]) -> bool:
    return any(f"did you mean {name!r}" in line for name in names for line in problems)


def to_settings(task: Task) -> dict[str, str]:
    """Return the settings that declare *task*, in canonical spelling, without the defaults.

    `Task(**to_settings(task))` has the same definition. Stores keep run-time tasks in this form.
    """
    values, _ = read_task(explicit_values(task))
    return {name: TASK_SETTINGS[name].text(value) for name, value in values.items()}
