"""The command line: `pulse check FILE.ini` tells what an ini file declares, or what is wrong."""

from __future__ import annotations

import argparse
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pulse.clock import SystemClock, rfc3339
from pulse.config.load import load_paste
from pulse.config.sections import find_sections
from pulse.errors import BadValueError, ConfigError
from pulse.middleware import pulse_filter_app_factory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pulse.clock import Clock, Instant
    from pulse.config.sections import Section
    from pulse.config.settings import Settings
    from pulse.task import Definition

OK, WRONG = 0, 2
FIRE_TIMES = 3


class Findings(NamedTuple):
    """What a check has found: lines for a person, and what is wrong."""

    lines: list[str]
    problems: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments* name, and return the exit status."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # names hold what a terminal may not be able to show
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.path.insert(0, "")  # as servers do, for what the file's sections use
    findings = check(
        Path(options.file),
        clock=SystemClock(),
        section=options.section,
        global_conf=dict(options.globals),
    )
    for line in findings.lines:
        print(line)  # noqa: T201 - the command's answer
    for problem in findings.problems:
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201 - likewise
    return WRONG if findings.problems else OK


def check(
    file: Path,
    *,
    clock: Clock,
    section: str | None = None,
    global_conf: Mapping[str, str] | None = None,
) -> Findings:
    """Read the sections of an ini file that use pulse, without building the app."""
    search = find_sections(
        file, pulse_filter_app_factory, only=section, global_conf=global_conf or {}
    )
    findings = Findings([], search.problems)
    for found in search.sections:
        _check_section(found, clock.wall(), findings)
    return findings


def _check_section(section: Section, now: Instant, findings: Findings) -> None:
    try:
        settings = load_paste(section.global_conf, section.local_conf)
    except ConfigError as error:
        findings.problems.extend(f"[{section.name}] {problem}" for problem in error.problems)
    else:
        findings.lines.extend(_described(section.name, settings, now))


def _described(name: str, settings: Settings, now: Instant) -> Iterator[str]:
    tasks = settings.tasks.values()
    store = settings.store or "an SQLite file of this host"
    yield f"[{name}] mode = {settings.mode}, store = {store}, tasks: {len(tasks)}"
    for task in tasks:
        yield f"{task.name}: {_call(task)}, {_schedule(task)}:"
        yield from (f"    {rfc3339(fire_time)}" for fire_time in _next_fire_times(task, now))


def _call(task: Definition) -> str:
    query = f"?{task.query}" if task.query else ""
    path = task.path.encode("latin-1").decode(errors="backslashreplace")
    return f"{task.method} {path}{query}"


def _schedule(task: Definition) -> str:
    words = task.schedule.spell()
    told = ", ".join(f"{name} = {word}" for name, word in words.items())
    return told if "start" in words else f"{told}; as if the store first saw it now"


def _next_fire_times(task: Definition, now: Instant) -> Iterator[Instant]:
    fire_time = task.schedule.first(now)
    for _ in range(FIRE_TIMES):
        if fire_time is None:
            return
        yield fire_time
        fire_time = task.schedule.next_after(fire_time, anchor=now)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pulse", description="Scheduled requests for WSGI apps.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    told = "tell what an ini file declares and when each task fires next, or all that is wrong"
    command = commands.add_parser("check", help=told, description=f"{told.capitalize()}.")
    command.add_argument("file", help="an ini file of PasteDeploy")
    command.add_argument("--section", help="only this section, such as filter:pulse")
    command.add_argument(
        "--global",
        dest="globals",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what gunicorn is told by --paste-global; may be repeated",
    )
    return parser


def _assignment(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(str(BadValueError("NAME=VALUE", word)))
    return name, value
