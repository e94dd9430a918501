"""The settings of pulse itself: a table of names, types, defaults and help, and their values.

The ini keys, the keywords of `PulseMiddleware`, the errors and the reference page are generated
from `SETTINGS`. The settings of tasks are in `pulse.core.task_settings.TASK_SETTINGS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypedDict

import msgspec

from pulse.carrier.base import DEFAULT_QUEUE, DEFAULT_WAIT
from pulse.clock import DAY, SECOND, Span
from pulse.config import converters as config_converters
from pulse.config.access_rules import AccessRule, access_rules
from pulse.core.policies import Output, Start, StoreFallback
from pulse.core.runtime_task import TaskDefaults
from pulse.core.task import DEFAULT_TIMEOUT
from pulse.errors import shown_url
from pulse.schedule.converters import UTC, zone
from pulse.settings import converters
from pulse.settings.setting import Setting, table
from pulse.store.base import StoreOptions
from pulse.store.factory import store_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from pulse.core.task import Task, TaskDefinition

DEFAULT_BASE_URL = "http://localhost"

SETTINGS = table(
    Setting(
        name="context",
        convert=config_converters.context,
        kind="path",
        default="empty",
        help="The base path of relative actions of tasks; absolute actions ignore the context.",
        example="sessions",
    ),
    Setting(
        name="mode",
        convert=config_converters.mode,
        kind="threading, gevent, processing, celery, auto or inline",
        default="threading",
        help="The engine that executes runs; other packages may add modes.",
        example="gevent",
    ),
    Setting(
        name="guard",
        convert=converters.boolean,
        kind="boolean",
        default="false",
        help="Whether requests of outsiders for scheduled paths are refused with 403.",
        example="true",
    ),
    Setting(
        name="guarded",
        convert=config_converters.guarded,
        kind="paths",
        default="none",
        help="Further paths that the guard covers, such as the paths of run-time tasks.",
        example="/reports",
    ),
    Setting(
        name="store",
        convert=store_url,
        kind="memory:, sqlite:///path, postgresql://user@host/db or redis://host",
        default="an SQLite file that the processes of this host share",
        help="Where processes agree on who executes a run, and where history is kept.",
        example="sqlite:////srv/shop/pulse.db",
    ),
    Setting(
        name="store_fallback",
        convert=converters.choice(StoreFallback),
        kind="refuse or memory",
        default="refuse",
        help=(
            "What happens without a folder that this user can write for the default store: `refuse`"
            " serves the application without its tasks, and logs an error; `memory` lets each"
            " process tick by itself."
        ),
        example="memory",
    ),
    Setting(
        name="start",
        convert=converters.choice(Start),
        kind="auto, eager or off",
        default="auto",
        help="When a process starts its scheduler: when it serves requests, at once, or never.",
        example="off",
    ),
    Setting(
        name="name",
        convert=config_converters.name,
        kind="name",
        default="unset: the default store is named by the ini file, or the working directory",
        help=(
            "Distinguishes applications that share a store, and names the default store's file."
            " **If `store` is set, all applications without a name count as one application**."
        ),
        example="shop",
    ),
    Setting(
        name="concurrency",
        convert=converters.count(1, 10_000),
        kind="number",
        default="10; 2 with mode = processing, 20 with mode = celery",
        help=(
            "The maximum number of concurrent runs in each process; with mode = celery how many"
            " claims wait in a process until they are posted."
        ),
        example="4",
    ),
    Setting(
        name="lease",
        convert=config_converters.lease,
        kind="duration of at least 1s",
        is_span=True,
        default="30s",
        help="How long a claim is valid without renewal; then its process counts as dead.",
        example="10s",
    ),
    Setting(
        name="drain",
        convert=converters.duration_or_zero,
        kind="duration",
        is_span=True,
        default="25s, or the server's own limit minus 1s if that is less",
        help="How long running work may continue when the process stops, before it is interrupted.",
        example="60s",
    ),
    Setting(
        name="application",
        convert=config_converters.application,
        kind="package.module:name, package.module:factory(), or a section of the ini file",
        default="the application that the server has loaded, if pulse is a filter of an ini file",
        help="The application that the child processes of mode = processing load.",
        example="shop.wsgi:application",
    ),
    Setting(
        name="broker",
        convert=config_converters.broker,
        kind="amqp:// or redis:// URL, or package.module:name of a Celery application",
        default="none; required with mode = celery",
        help="The broker that passes runs on to Celery workers, with mode = celery.",
        example="amqp://shop@mq//",
    ),
    Setting(
        name="queue",
        convert=converters.queue,
        kind="name",
        default=DEFAULT_QUEUE,
        help="The queue of the Celery workers; a task may name another one.",
        example="shop",
    ),
    Setting(
        name="wait",
        convert=config_converters.wait,
        kind="duration from 1s to 30d",
        is_span=True,
        default="5m",
        help=(
            "How long a run waits for a Celery worker before it is missed; never longer than the"
            " grace of its task."
        ),
        example="10m",
    ),
    Setting(
        name="base_url",
        convert=config_converters.base_url,
        kind="URL",
        default=DEFAULT_BASE_URL,
        help="The scheme, host, port and script name of scheduled requests.",
        example="https://shop.example.org",
    ),
    Setting(
        name="timeout",
        convert=converters.timeout,
        kind="duration of at least 1ms",
        is_span=True,
        default="180s",
        help="The timeout of tasks without a timeout of their own.",
        example="60s",
    ),
    Setting(
        name="timezone",
        convert=zone,
        kind="time zone",
        default="UTC",
        help="The zone of cron expressions and of dates without offset, for tasks without a zone.",
        example="Europe/Berlin",
    ),
    Setting(
        name="keep_runs",
        convert=converters.count(1, 10_000_000),
        kind="number",
        default="1000",
        help="How many ended runs of each task are kept; memory: keeps ten times as many in total.",
        example="100",
    ),
    Setting(
        name="keep_for",
        convert=converters.duration,
        kind="duration",
        is_span=True,
        default="30d",
        help="How long the store keeps ended runs; memory: ignores it and limits only the number.",
        example="7d",
    ),
    Setting(
        name="keep_failures",
        convert=converters.duration,
        kind="duration",
        is_span=True,
        default="90d, or keep_for if that is longer",
        help=(
            "How long the store keeps runs that failed, timed out or were abandoned: of each task"
            " up to keep_runs beside the newest runs."
        ),
        example="180d",
    ),
    Setting(
        name="api",
        convert=config_converters.mount,
        kind="path",
        default="unset: no API",
        help="The address below which the JSON API is served; needs `access`.",
        example="/_pulse/api",
    ),
    Setting(
        name="dashboard",
        convert=config_converters.mount,
        kind="path",
        default="unset: no dashboard",
        help="The address below which the pages of the dashboard are served; needs `access`.",
        example="/_pulse",
    ),
    Setting(
        name="health",
        convert=config_converters.mount,
        kind="path",
        default="unset: no probes",
        help="The address below which `live`, `ready` and `health` are served, for probes.",
        example="/_pulse",
    ),
    Setting(
        name="access",
        convert=access_rules,
        kind="rules, one a line",
        default="none",
        help="Who may read and who may act: by tokens, passwords, or a function.",
        example="act token:${PULSE_TOKEN}",
        is_secret=True,
    ),
    Setting(
        name="trusted_origins",
        convert=config_converters.origins,
        kind="origins",
        default="none",
        help="Other origins whose pages may act, such as that of a proxy that changes `Host`.",
        example="https://shop.example.org",
    ),
    Setting(
        name="output",
        convert=converters.choice(Output),
        kind="full, failures or none",
        default="full",
        help=("Of which runs API and dashboard show the start of the response, or the traceback."),
        example="failures",
    ),
    Setting(
        name="redact",
        convert=config_converters.redact,
        kind="package.module:name of a function",
        default="none",
        help="Changes each such text before it is shown: a function of the text and the task.",
        example="shop.tasks:redact",
    ),
)


class Keywords(TypedDict, total=False):
    """The keywords of `PulseMiddleware`: each accepts the values of its setting, or None."""

    context: str | None
    mode: str | None
    guard: bool | str | None
    guarded: str | Sequence[str] | None
    store: str | None
    store_fallback: StoreFallback | str | None
    start: Start | str | None
    name: str | None
    concurrency: int | str | None
    lease: float | str | timedelta | None
    drain: float | str | timedelta | None
    application: str | None
    broker: str | None
    queue: str | None
    wait: float | str | timedelta | None
    base_url: str | None
    timeout: float | str | timedelta | None
    timezone: str | None
    keep_runs: int | str | None
    keep_for: float | str | timedelta | None
    keep_failures: float | str | timedelta | None
    api: str | None
    dashboard: str | None
    health: str | None
    access: str | Sequence[str | Callable[..., object]] | Callable[..., object] | None
    trusted_origins: str | Sequence[str] | None
    output: Output | str | None
    redact: str | Callable[[str, str], str] | None
    tasks: Mapping[str, Task | Mapping[str, object]] | None
    task: Mapping[str, Task | Mapping[str, object]] | None


class PasteCall(NamedTuple):
    """The call of PasteDeploy by which the server loaded its application.

    Attributes:
        uri: such as `config:/srv/shop/site.ini`.
        section: the name of the application in it.
        relative_to: the base folder of a relative URI.
        global_conf: the variables of the call, without those of the file.
        within: the names of the applications that contain the middleware, outermost first.

    """

    uri: str
    section: str
    relative_to: str
    global_conf: Mapping[str, str]
    within: tuple[str, ...]


class PasteOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments with which a child process loads the application by PasteDeploy.

    Attributes:
        uri: `config:` and the quoted path of the ini file, or the URI of the server's call.
        section: the name of the section of the application; empty if it is unknown.
        relative_to: the base folder of a relative URI.
        global_conf: the variables for the loader.
        chosen: whether the setting names the section.

    """

    uri: str
    section: str = ""
    relative_to: str = ""
    global_conf: Mapping[str, str] = {}
    chosen: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A complete and validated configuration with exact types.

    Attributes:
        concurrency: None for the default of the mode.
        drain_us: the maximum drain time; a server's own limit may be less.
        guarded: further paths that the guard covers (PEP 3333 text).
        application: `package.module:name`, if given.
        broker: the URL of the broker, or where a Celery application is; None for none.
        wait_us: how long a run waits for a Celery worker.
        api: the address of the API; None for none.
        dashboard: the address of the dashboard; None for none.
        health: the address of the probes; None for none.
        tasks: the enabled tasks by name, in the order of their declaration.
        zones: the time zone of each task by name, for output to users.
        digest: equal in all processes with the same tasks and the same base URL.
        origin: the real path of the ini file, or the working directory.
        paste: the PasteDeploy origin, if the settings came from an ini file.

    """

    context: str = ""
    mode: str = "threading"
    guard: bool = False
    guarded: tuple[str, ...] = ()
    store: str | None = None
    store_fallback: StoreFallback = StoreFallback.REFUSE
    start: Start = Start.AUTO
    name: str | None = None
    concurrency: int | None = None
    lease_us: Span = 30 * SECOND
    drain_us: Span = 25 * SECOND
    application: str | None = None
    broker: str | None = None
    queue: str = DEFAULT_QUEUE
    wait_us: Span = DEFAULT_WAIT
    base_url: str = DEFAULT_BASE_URL
    timeout_us: Span = DEFAULT_TIMEOUT
    timezone: str = UTC
    keep_runs: int = 1_000
    keep_for_us: Span = 30 * DAY
    keep_failures_us: Span = 90 * DAY
    api: str | None = None
    dashboard: str | None = None
    health: str | None = None
    access: tuple[AccessRule, ...] = ()
    trusted_origins: tuple[str, ...] = ()
    output: Output = Output.FULL
    redact: str | Callable[[str, str], str] | None = None
    tasks: Mapping[str, TaskDefinition]
    zones: Mapping[str, str]
    digest: str
    origin: str
    paste: PasteOrigin | None = None

    def guarded_paths(self) -> tuple[str, ...]:
        """Return the paths that the guard covers, those of the tasks too, if it is on."""
        paths = (definition.path for definition in self.tasks.values())
        return tuple(dict.fromkeys([*self.guarded, *paths]))

    def store_options(self) -> StoreOptions:
        """Return what the store is passed of the settings."""
        return StoreOptions(
            name=self.name or "",
            keep_runs=self.keep_runs,
            keep_for_us=self.keep_for_us,
            keep_failures_us=max(self.keep_failures_us, self.keep_for_us),
        )

    def task_defaults(self) -> TaskDefaults:
        """Return the settings that run-time tasks take from the configuration."""
        return TaskDefaults(
            context=self.context,
            timeout_us=self.timeout_us,
            timezone=self.timezone,
            guarded=self.guarded_paths() if self.guard else None,
        )

    def __repr__(self) -> str:
        """Return the values without passwords, headers and bodies: error reports show locals."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        values["tasks"] = [*self.tasks]
        values["paste"] = self.paste and self.paste.section  # its global_conf may hold secrets
        for name in ("store", "base_url", "broker"):
            values[name] = values[name] and shown_url(values[name])
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"
