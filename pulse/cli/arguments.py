"""The arguments of the command `pulse`; each command's module is imported when it runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeVar

from pulse.clock import SECOND
from pulse.errors import BadValueError
from pulse.settings import converters
from pulse.settings.converters import is_application

if TYPE_CHECKING:
    from collections.abc import Callable

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - has no public name

T = TypeVar("T")

_STATUSES = """\
exit statuses: 0 done, 1 the run failed or a fire time is not in order, 2 wrong usage or
configuration, 3 no such task or run, 4 the store is not reached, 5 refused, 124 timed out,
130 Ctrl-C
"""
_TARGET = (
    "FILE.ini or package.module:app; default: --store, the environment variable PULSE_STORE, or the"
    " only ini file of pulse in this folder"
)


def is_target(word: str) -> bool:
    """Return whether a word is an ini file or an application, and not the name of a task."""
    return word.endswith(".ini") or is_application(word)


class PrintVersion(argparse.Action):
    """Prints the version, which is read for this option alone: that takes 20 ms."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the version, and exit."""
        from pulse.wsgi.dispatcher import version

        print(f"pulse {version()}")  # noqa: T201 - the output of the command
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; the options of a command have its name in `command`."""
    parser = argparse.ArgumentParser(
        prog="pulse",
        description="Scheduled requests for WSGI apps.",
        epilog=_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=PrintVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_check(commands)
    _add_next(commands)
    _add_simulate(commands)
    _add_convert(commands)
    _add_reads(commands)
    _add_accounts(commands)
    _add_run(commands)
    _add_verbs(commands)
    _add_prune(commands)
    _add_worker(commands)
    _command(commands, "hash-password", "print the hash of a password, for the setting access")
    _add_completion(commands)
    return parser


def _command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}."
    command = commands.add_parser(name, help=text, description=description)
    command.set_defaults(parser=command)  # for errors that are found after parsing
    return command


# Commands that read a configuration, and no store ---------------------------------------------


def _add_check(commands: Commands) -> None:
    text = "list the tasks of a configuration with their next fire times, or report all its errors"
    _add_file(_command(commands, "check", text))


def _add_next(commands: Commands) -> None:
    command = _command(commands, "next", "explain a schedule and list its next fire times")
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


def _add_simulate(commands: Commands) -> None:
    text = "forecast the fire times of a configuration and its busiest hours; runs nothing"
    command = _command(commands, "simulate", text)
    _add_file(command)
    _add_length(command, "the length of the window", default="7d")
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
    command.add_argument(
        "--html", action="store_true", help="write a page with a lane for each task, for a file"
    )
    _add_json(command)


def _add_convert(commands: Commands) -> None:
    text = "print the schedules of a crontab, of Celery beat or of APScheduler as settings of pulse"
    command = _command(commands, "convert", text)
    command.add_argument("kind", choices=("crontab", "celery", "apscheduler"))
    command.add_argument(
        "source", help="a crontab, or package.module:name of the Celery application or scheduler"
    )
    command.add_argument(
        "--user-field",
        action="store_true",
        help="the crontab has the user after the schedule, as /etc/crontab has",
    )
    command.add_argument("--python", action="store_true", help="print Python, not ini lines")


def _add_completion(commands: Commands) -> None:
    text = "print a script that completes the commands and options of pulse in a shell"
    command = _command(commands, "completion", text)
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"))


# Commands that work on a store -----------------------------------------------------------------


def _add_reads(commands: Commands) -> None:
    command = _command(commands, "tasks", "list the tasks in the store, or show one")
    _add_task(command, nargs="?")
    _add_target(command)
    command = _command(commands, "runs", "list the newest runs, and what did not run")
    _add_task(command, nargs="?")
    command.add_argument("--failed", action="store_true", help="only what went wrong")
    _add_outcome(command, "such as failed, missed, running or pending")
    command.add_argument("--trigger", help="only schedule, catch_up, manual or startup")
    command.add_argument("--holder", help="only those of this process: host:pid:letters")
    _add_window(command)
    _add_page(command)
    _add_target(command)
    command = _command(commands, "show", "show everything that is known about one run")
    command.add_argument("run", metavar="RUN", help="its id, or the first 4 or more digits of it")
    _add_target(command)
    command = _command(commands, "fleet", "list the processes that take part")
    _add_target(command)
    text = "show whether the schedule is kept; exit status 0, 1 with warnings, 2 if it is not"
    command = _command(commands, "health", text)
    _add_target(command)
    command = _command(commands, "watch", "show what happens, live, what needs attention first")
    command.add_argument(
        "--every",
        type=_as(converters.duration),
        default=SECOND,
        metavar="DURATION",
        help="how often the store is read; default: 1s",
    )
    _add_target(command)
    command = _command(commands, "audit", "list who paused, resumed, triggered or stopped what")
    _add_page(command)
    _add_target(command)


def _add_accounts(commands: Commands) -> None:
    command = _command(commands, "why", "explain why a task ran at a time, or why it did not")
    _add_task(command)
    command.add_argument(
        "time", metavar="TIME", help="such as 2026-11-28T03:00, in the zone of the task"
    )
    command.add_argument(
        "--within",
        type=_as(converters.duration),
        metavar="DURATION",
        help="explain all fire times of this length; default: a minute or a second, as TIME says",
    )
    _add_target(command)
    command = _command(commands, "ledger", "account for each fire time of a task, or of all tasks")
    _add_task(command, nargs="?")
    _add_length(command, "the length of the time until now", default="7d")
    _add_window(command)
    _add_target(command)
    command = _command(
        commands, "report", "write a page about what ran and what went wrong, for a file"
    )
    _add_length(command, "the length of the time until now", default="7d")
    _add_target(command)


def _add_run(commands: Commands) -> None:
    text = "perform one run of a task at once, in this terminal, and show the response"
    command = _command(commands, "run", text)
    _add_task(command)
    command.add_argument(
        "target", metavar="TARGET", help="a PasteDeploy ini file, or package.module:app"
    )
    command.add_argument(
        "--app", default="main", metavar="NAME", help="the application of the file; default: main"
    )
    command.add_argument("--name", help="the setting pulse.config.name, where there are several")
    _add_global(command)
    _add_body(command)
    command.add_argument(
        "--anyway", action="store_true", help="run also while overlap permits no further run"
    )
    command.add_argument("--no-record", action="store_true", help="leave no run in the store")
    command.add_argument(
        "--no-timeout",
        action="store_true",
        help="do not end the run at its timeout, as to debug it",
    )
    _add_by(command)
    _add_json(command)


def _add_worker(commands: Commands) -> None:
    text = "start a Celery worker that executes posted runs, under mode = celery"
    command = _command(commands, "worker", text)
    command.usage = "pulse worker [-h] [--app NAME] [--name NAME] TARGET [-- OPTION ...]"
    command.epilog = (
        "What follows -- goes to `celery worker`, such as -- -c 8 -P gevent -n jobs@%h -l info."
        " The worker reads the queues of the configuration unless -Q names others."
    )
    command.add_argument(
        "target", metavar="TARGET", help="a PasteDeploy ini file, or package.module:app"
    )
    command.add_argument(
        "--app", default="main", metavar="NAME", help="the application of the file; default: main"
    )
    command.add_argument("--name", help="the setting pulse.config.name, where there are several")


def _add_verbs(commands: Commands) -> None:
    text = "run a task once now, in a process of the server"
    command = _command(commands, "trigger", text)
    _add_task(command)
    _add_body(command)
    command.add_argument(
        "--wait",
        nargs="?",
        type=_as(converters.duration_or_zero),
        const=0,
        metavar="DURATION",
        help="wait for its end, at most so long; the exit status is that of the run",
    )
    _add_by(command)
    _add_target(command)
    command = _command(commands, "pause", "skip the fire times of a task, or of all tasks")
    _add_task(command, nargs="?")
    command.add_argument("--all", action="store_true", help="all tasks, also later ones")
    command.add_argument("--until", metavar="TIME", help="when the pause ends by itself")
    _add_length(command, "how long the pause lasts")
    command.add_argument("--note", help="why")
    _add_by(command)
    _add_target(command)
    command = _command(commands, "resume", "end the pause of a task, or of all tasks")
    _add_task(command, nargs="?")
    command.add_argument("--all", action="store_true", help="end the pause of all tasks")
    _add_by(command)
    _add_target(command)
    command = _command(commands, "stop", "stop a run that waits or is in progress")
    command.add_argument("run", metavar="RUN", help="its id, or the first 4 or more digits of it")
    command.add_argument("--note", help="why")
    command.add_argument(
        "--wait",
        type=_as(converters.duration),
        default=10 * SECOND,
        metavar="DURATION",
        help="how long to wait for its end; default: 10s",
    )
    _add_by(command)
    _add_target(command)


def _add_prune(commands: Commands) -> None:
    command = _command(commands, "prune", "delete old runs from the history")
    _add_task(command, nargs="?")
    command.add_argument(
        "--older",
        type=_as(converters.duration),
        default="30d",
        metavar="DURATION",
        help="how old their fire times are at least; default: 30d",
    )
    _add_outcome(command, "such as succeeded or skipped")
    command.add_argument("--dry-run", action="store_true", help="count them, and delete nothing")
    command.add_argument("-y", "--yes", action="store_true", help="do not ask")
    _add_by(command)
    _add_target(command)


# Options of several commands -------------------------------------------------------------------


def _add_task(command: argparse.ArgumentParser, *, nargs: str | None = None) -> None:
    command.add_argument("task", nargs=nargs, metavar="TASK", help="the name of a task")


def _add_length(command: argparse.ArgumentParser, text: str, *, default: str | None = None) -> None:
    command.add_argument(
        "--for",
        dest="length",
        type=_as(converters.duration),
        default=default,
        metavar="DURATION",
        help=f"{text}; default: {default}" if default else text,
    )


def _add_target(command: argparse.ArgumentParser) -> None:
    command.add_argument("target", nargs="?", metavar="TARGET", help=_TARGET)
    command.add_argument("--store", metavar="URL", help="a store, such as sqlite:////srv/pulse.db")
    command.add_argument("--name", help="the setting pulse.config.name of the application")
    _add_section(command)
    command.add_argument("--utc", action="store_true", help="times in UTC, not in the task's zone")
    _add_json(command)


def _add_file(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", help="a PasteDeploy ini file, or package.module:app")
    _add_section(command)


def _add_section(command: argparse.ArgumentParser) -> None:
    command.add_argument("--section", help="read only this section, such as filter:pulse")
    _add_global(command)


def _add_global(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--global",
        dest="globals",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable as in gunicorn's --paste-global; may be repeated",
    )


def _add_window(command: argparse.ArgumentParser) -> None:
    text = "a time, or a duration before now such as 24h"
    command.add_argument("--since", metavar="TIME", help=f"the earliest fire time: {text}")
    command.add_argument("--until", metavar="TIME", help=f"the end, not included: {text}")


def _add_page(command: argparse.ArgumentParser) -> None:
    command.add_argument("--before", type=int, metavar="NUMBER", help="continue a listing there")
    command.add_argument(
        "--limit",
        type=_as(converters.count(1, 10_000)),
        default=50,
        metavar="NUMBER",
        help="how many at most; default: 50",
    )


def _add_body(command: argparse.ArgumentParser) -> None:
    command.add_argument("--body", help="the body of the request, instead of the task's own")
    command.add_argument("--body-file", metavar="FILE", help="a file with the body; - for stdin")


def _add_outcome(command: argparse.ArgumentParser, examples: str) -> None:
    command.add_argument(
        "--outcome",
        action="append",
        metavar="OUTCOME",
        help=f"only these, {examples}; may be repeated",
    )


def _add_by(command: argparse.ArgumentParser) -> None:
    command.add_argument("--by", help="who asks, for the audit; default: the user's name")


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON document")


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
