"""The command `pulse`: its arguments, its exit statuses."""

from __future__ import annotations

import argparse
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pulse.cli import check, simulate
from pulse.cli import next as upcoming
from pulse.clock import SECOND, SystemClock
from pulse.errors import BadValueError, PulseError
from pulse.settings import converters
from pulse.wsgi.dispatcher import version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pulse.cli.output import Findings
    from pulse.clock import Instant

OK, WRONG = 0, 2
T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments* name, and return the exit status."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # names hold what a terminal may not be able to show
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.path.insert(0, "")  # as servers do, for what the file's sections use
    try:
        findings: Findings = options.run(options)
    except PulseError as error:
        return _tell_problems([str(error)])
    _tell(findings.lines)
    return _tell_problems(findings.problems)


def _tell(lines: Sequence[str]) -> None:
    try:
        for line in lines:
            print(line)  # noqa: T201 - the command's answer
        print(end="", flush=True)  # noqa: T201 - where stdout is closed it is None, which print knows
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell_problems(problems: Sequence[str]) -> int:
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201 - the command's answer
    return WRONG if problems else OK


def _check(options: argparse.Namespace) -> Findings:
    return check.check(
        Path(options.file),
        clock=SystemClock(),
        section=options.section,
        global_conf=dict(options.globals),
    )


def _next(options: argparse.Namespace) -> Findings:
    found = upcoming.find(
        options.expression,
        timezone=options.timezone,
        count=options.count,
        after=_this_second() if options.after is None else options.after,
    )
    return upcoming.as_json(found) if options.json else upcoming.as_table(found)


def _simulate(options: argparse.Namespace) -> Findings:
    found = simulate.forecasts(
        Path(options.file),
        since=_this_second() if options.since is None else options.since,
        length_us=options.length,
        section=options.section,
        global_conf=dict(options.globals),
        took=dict(options.took),
    )
    return simulate.as_json(found) if options.json else simulate.as_table(found)


def _this_second() -> Instant:
    now = SystemClock().wall()
    return now - now % SECOND


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pulse", description="Scheduled requests for WSGI apps.")
    parser.add_argument("--version", action="version", version=f"pulse {version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    told = "tell what an ini file declares and when each task fires next, or all that is wrong"
    command = commands.add_parser("check", help=told, description=f"{told.capitalize()}.")
    command.set_defaults(run=_check)
    _add_file(command)
    _add_next(commands)
    _add_simulate(commands)
    return parser


def _add_next(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    told = "explain a schedule in words, and list its next fire times"
    command = commands.add_parser("next", help=told, description=f"{told.capitalize()}.")
    command.set_defaults(run=_next)
    command.add_argument(
        "expression",
        help="a cron expression such as '0 3 * * *', a duration such as 5m, or '1 month'",
    )
    command.add_argument(
        "--timezone", metavar="ZONE", help="of a cron expression or a period; default: UTC"
    )
    command.add_argument(
        "--count", type=_as(converters.count(1, 1_000)), default=10, help="how many; default: 10"
    )
    command.add_argument(
        "--after", type=_as(converters.instant), metavar="TIME", help="RFC 3339; default: now"
    )
    _add_json(command)


def _add_simulate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    told = "tell when the tasks of an ini file will fire and where they pile up; runs nothing"
    command = commands.add_parser("simulate", help=told, description=f"{told.capitalize()}.")
    command.set_defaults(run=_simulate)
    _add_file(command)
    command.add_argument(
        "--for",
        dest="length",
        type=_as(converters.duration),
        default="7d",
        metavar="DURATION",
        help="the length of the window; default: 7d",
    )
    command.add_argument(
        "--from",
        dest="since",
        type=_as(converters.instant),
        metavar="TIME",
        help="its beginning, when the store first sees the tasks; RFC 3339; default: now",
    )
    command.add_argument(
        "--took",
        type=_took,
        action="append",
        default=[],
        metavar="NAME=DURATION",
        help="how long a run of a task takes, instead of the median in the store's history",
    )
    _add_json(command)


def _add_file(command: argparse.ArgumentParser) -> None:
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


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for programs; needs no extra")


def _as(read: Callable[[object], T]) -> Callable[[str], T]:
    """Return a converter whose errors argparse shows as they are."""

    def convert_word(word: str) -> T:
        try:
            return read(word)
        except BadValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert_word


def _assignment(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(str(BadValueError("NAME=VALUE", word)))
    return name, value


def _took(word: str) -> tuple[str, int]:
    name, value = _assignment(word)
    return name, _as(converters.duration_or_zero)(value)
