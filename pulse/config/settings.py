"""The settings of pulse itself: one table of names, types, defaults and help, and their values.

`SETTINGS` is the single source: the ini dialect, the keywords of `PulseMiddleware`, the errors
and the reference page are made from it. The settings of tasks are in `pulse.core.task_settings`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import msgspec

from pulse.clock import SECOND, Span
from pulse.config import converters as config_converters
from pulse.core.policies import Start
from pulse.core.task import DEFAULT_TIMEOUT
from pulse.schedule.converters import UTC, zone
from pulse.settings import converters
from pulse.settings.setting import Setting, table
from pulse.store.factory import store_word

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from pulse.core.task import Definition, Task

DEFAULT_BASE_URL = "http://localhost"
DAY: Span = 86_400 * SECOND

SETTINGS = table(
    Setting(
        name="context",
        convert=config_converters.context,
        kind="path",
        default="empty",
        help="The path that the actions of tasks lie below; absolute actions ignore it.",
        example="sessions",
    ),
    Setting(
        name="mode",
        convert=config_converters.mode,
        kind="threading, gevent, processing, auto or inline",
        default="threading",
        help="The engine that runs happen in; other packages may add modes.",
        example="gevent",
    ),
    Setting(
        name="guard",
        convert=converters.boolean,
        kind="boolean",
        default="false",
        help="Whether requests from outside to scheduled paths are refused with 403.",
        example="true",
    ),
    Setting(
        name="guarded",
        convert=config_converters.guarded,
        kind="paths",
        default="none",
        help="Paths that the guard covers beside those of tasks, such as those of run-time tasks.",
        example="/reports",
    ),
    Setting(
        name="store",
        convert=store_word,
        kind="memory:, sqlite:///path, postgresql://user@host/db or redis://host",
        default="an SQLite file that the processes of this host share",
        help="Where processes agree on who runs a tick, and history is kept.",
        example="sqlite:////srv/shop/pulse.db",
    ),
    Setting(
        name="start",
        convert=converters.choice(Start),
        kind="auto, eager or off",
        default="auto",
        help="When a process takes part: once it serves requests, as soon as it can, or never.",
        example="off",
    ),
    Setting(
        name="name",
        convert=config_converters.name,
        kind="name",
        default="unset: the default store is named by the ini file, or the working directory",
        help=(
            "Tells applications that share a store apart, and names the default store's file."
            " **Where `store` is set, all applications without a name are one**."
        ),
        example="shop",
    ),
    Setting(
        name="concurrency",
        convert=converters.count(1, 10_000),
        kind="number",
        default="10; 2 where mode = processing",
        help="How many runs each process takes at once.",
        example="4",
    ),
    Setting(
        name="lease",
        convert=config_converters.lease,
        kind="duration of at least 1s",
        default="30s",
        help="How long a claim is good unless renewed; a dead process is noticed after that.",
        example="10s",
    ),
    Setting(
        name="drain",
        convert=converters.duration_or_zero,
        kind="duration",
        default="25s, or the server's own limit less a second where that is less",
        help="How long running work may go on when the process stops, before it is interrupted.",
        example="60s",
    ),
    Setting(
        name="application",
        convert=config_converters.application,
        kind="package.module:name, or a section of the ini file",
        default="the app of section main, where pulse is a filter of an ini file",
        help="Where the child processes of mode = processing find the application.",
        example="shop.wsgi:application",
    ),
    Setting(
        name="base_url",
        convert=config_converters.base_url,
        kind="URL",
        default=DEFAULT_BASE_URL,
        help="The scheme, host, port and script name that scheduled requests show the app.",
        example="https://shop.example.org",
    ),
    Setting(
        name="timeout",
        convert=converters.duration,
        kind="duration",
        default="180s",
        help="The timeout of tasks that set none.",
        example="60s",
    ),
    Setting(
        name="timezone",
        convert=zone,
        kind="time zone",
        default="UTC",
        help="The zone of cron expressions, and of dates without offset, where a task names none.",
        example="Europe/Berlin",
    ),
    Setting(
        name="keep_runs",
        convert=converters.count(1, 10_000_000),
        kind="number",
        default="1000",
        help="How many ended runs of each task the store keeps; memory: ten times that in all.",
        example="100",
    ),
    Setting(
        name="keep_for",
        convert=converters.duration,
        kind="duration",
        default="30d",
        help="How long the store keeps ended runs; memory: keeps them by number alone.",
        example="7d",
    ),
)


class Keywords(TypedDict, total=False):
    """The keywords of `PulseMiddleware`: each takes what the setting of its name takes, or None."""

    context: str | None
    mode: str | None
    guard: bool | str | None
    guarded: str | Sequence[str] | None
    store: str | None
    start: Start | str | None
    name: str | None
    concurrency: int | str | None
    lease: float | str | timedelta | None
    drain: float | str | timedelta | None
    application: str | None
    base_url: str | None
    timeout: float | str | timedelta | None
    timezone: str | None
    keep_runs: int | str | None
    keep_for: float | str | timedelta | None
    tasks: Mapping[str, Task | Mapping[str, object]] | None
    task: Mapping[str, Task | Mapping[str, object]] | None


class Paste(msgspec.Struct, frozen=True, kw_only=True):
    """Where PasteDeploy can load the application again: what a child process is told.

    Attributes:
        uri: `config:` and the quoted path of the ini file.
        section: the name of the section that holds the application.
        global_conf: what the loader passed, `here` and `__file__` included.

    """

    uri: str
    section: str
    global_conf: Mapping[str, str]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration, checked, with exact types.

    Attributes:
        concurrency: None stands for the mode's own default.
        drain_us: at most this; a server's own limit may be less.
        guarded: paths that are guarded beside those of the tasks (PEP 3333 text).
        application: `package.module:name`, where it was given.
        tasks: the enabled tasks by name, in the order in which they were declared.
        zones: the time zone in which each task was declared, by its name; it is for people.
        digest: the same in all processes that hold the same tasks and call them alike.
        origin: the real path of the ini file, or the working directory.
        paste: where the ini file came from PasteDeploy.

    """

    context: str = ""
    mode: str = "threading"
    guard: bool = False
    guarded: tuple[str, ...] = ()
    store: str | None = None
    start: Start = Start.AUTO
    name: str | None = None
    concurrency: int | None = None
    lease_us: Span = 30 * SECOND
    drain_us: Span = 25 * SECOND
    application: str | None = None
    base_url: str = DEFAULT_BASE_URL
    timeout_us: Span = DEFAULT_TIMEOUT
    timezone: str = UTC
    keep_runs: int = 1_000
    keep_for_us: Span = 30 * DAY
    tasks: Mapping[str, Definition]
    zones: Mapping[str, str]
    digest: str
    origin: str
    paste: Paste | None = None
