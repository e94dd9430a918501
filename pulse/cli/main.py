"""The command `pulse`: its arguments and exit statuses."""

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

    from pulse.cli.output import CommandOutput
    from pulse.clock import Instant

OK, WRONG = 0, 2
T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    Args:
        arguments: the command line without the program; default: `sys.argv[1:]`.

    """
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # the terminal may not support all characters
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.path.insert(0, "")  # as servers do, for modules that the file's sections use
    try:
        output: CommandOutput = options.run(options)
    except PulseError as error:
        return _print_problems([str(error)])
    _print_lines(output.lines)
    return _print_problems(output.problems)


def _print_lines(lines: Sequence[str]) -> None:
    try:
        for line in lines:
            print(line)  # noqa: T201 - the output of the command
        print(end="", flush=True)  # noqa: T201 - print accepts a closed stdout, which is None
    except BrokenPipeError:  # the reader, such as `head`, has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_problems(problems: Sequence[str]) -> int:
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201 - the output of the command
    return WRONG if problems else OK


def _check(options: argparse.Namespace) -> CommandOutput:
    return check.check(
        Path(options.file),
        clock=SystemClock(),
        section=options.section,
        global_conf=dict(options.globals),
    )


def _next(options: argparse.Namespace) -> CommandOutput:
    result = upcoming.find_fire_times(
        options.expression,
        timezone=options.timezone,
        count=options.count,
        after=_this_second() if options.after is None else options.after,
    )
    return upcoming.as_json(result) if options.json else upcoming.as_table(result)


def _simulate(options: argparse.Namespace) -> CommandOutput:
    result = simulate.forecasts(
        Path(options.file),
        since=_this_second() if options.since is None else options.since,
        length_us=options.length,
        section=options.section,
        global_conf=dict(options.globals),
        took=dict(options.took),
    )
    return simulate.as_json(result) if options.json else simulate.as_table(result)


def _this_second() -> Instant:
    now = SystemClock().wall()
    return now - now % SECOND


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pulse", description="Scheduled requests for WSGI apps.")
    parser.add_argument("--version", action="version", version=f"pulse {version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "list the tasks of an ini file with their next fire times, or report all its errors"
    command = commands.add_parser("check", help=text, description=f"{text.capitalize()}.")
    command.set_defaults(run=_check)
    _add_file(command)
    _add_next(commands)
    _add_simulate(commands)
    return parser


def _add_next(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "explain a schedule and list its next fire times"
    command = commands.add_parser("next", help=text, description=f"{text.capitalize()}.")
    command.set_defaults(run=_next)
    command.add_argument(
        "expression",
        help="a cron expression such as '0 3 * * *', a duration such as 5m, or '1 month'",
    )
    command.add_argument(
        "--timezone",
        metavar="ZONE",
        help="time zone of a cron expression or a period; default: UTC",
    )
    command.add_argument(
        "--count",
        type=_as(converters.count(1, 1_000)),
        default=10,
        help="number of fire times; default: 10",
    )
    command.add_argument(
        "--after",
        type=_as(converters.instant),
        metavar="TIME",
        help="start time in RFC 3339; default: now",
    )
    _add_json(command)


def _add_simulate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "forecast the fire times of an ini file's tasks and their busiest hours; runs nothing"
    command = commands.add_parser("simulate", help=text, description=f"{text.capitalize()}.")
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
        help="start of the window, when the store first sees the tasks; RFC 3339; default: now",
    )
    command.add_argument(
        "--took",
        type=_took,
        action="append",
        default=[],
        metavar="NAME=DURATION",
        help="duration of a task's runs, instead of the median in the store's history",
    )
    _add_json(command)


def _add_file(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", help="a PasteDeploy ini file")
    command.add_argument("--section", help="read only this section, such as filter:pulse")
    command.add_argument(
        "--global",
        dest="globals",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable as in gunicorn's --paste-global; may be repeated",
    )


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON; needs no extra")


def _as(convert_value: Callable[[object], T]) -> Callable[[str], T]:
    """Return a converter for argparse that keeps the error texts of *convert_value*."""

    def convert_argument(text: str) -> T:
        try:
            return convert_value(text)
        except BadValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert_argument


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(str(BadValueError("NAME=VALUE", text)))
    return name, value


def _took(text: str) -> tuple[str, int]:
    name, value = _assignment(text)
    return name, _as(converters.duration_or_zero)(value)
