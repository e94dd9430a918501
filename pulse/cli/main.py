"""The command `pulse`: which module answers, how the answer is printed, and the exit status."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING

from pulse.cli.arguments import is_target, make_parser
from pulse.clock import SECOND, SystemClock
from pulse.errors import (
    ConfigError,
    NotServingError,
    PulseError,
    RunNotStoppableError,
    StoreError,
    UndeclaredTaskError,
    UnknownRunError,
    UnknownTaskError,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from pulse.cli.answers import Answer
    from pulse.cli.output import CommandOutput
    from pulse.clock import Instant
    from pulse.handle.handle import SchedulerHandle

OK, WRONG, UNKNOWN, NOT_REACHED, REFUSED, INTERRUPTED = 0, 2, 3, 4, 5, 130

_STATUSES: tuple[tuple[type[PulseError], int], ...] = (
    (UndeclaredTaskError, REFUSED),
    (RunNotStoppableError, REFUSED),
    (UnknownTaskError, UNKNOWN),
    (UnknownRunError, UNKNOWN),
    (StoreError, NOT_REACHED),
    (NotServingError, NOT_REACHED),
)
"""The exit status of an error: that of the first class that it is of."""

ON_STORES = {
    "tasks": "pulse.cli.read:tasks",
    "runs": "pulse.cli.read:runs",
    "show": "pulse.cli.read:show_run",
    "fleet": "pulse.cli.read:fleet",
    "health": "pulse.cli.health:health",
    "audit": "pulse.cli.read:audit",
    "why": "pulse.cli.account:why",
    "ledger": "pulse.cli.account:ledger",
    "watch": "pulse.cli.watch:watch",
    "trigger": "pulse.cli.steer:trigger",
    "pause": "pulse.cli.steer:pause",
    "resume": "pulse.cli.steer:resume",
    "stop": "pulse.cli.steer:stop",
    "prune": "pulse.cli.prune:prune",
    "report": "pulse.cli.report:report",
}
"""The functions that answer: each takes a handle and the options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    Args:
        arguments: the command line without the program; default: `sys.argv[1:]`.

    """
    options = _parsed(arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # the terminal may not support all characters
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.path.insert(0, "")  # as servers do, for modules that the file's sections use
    try:
        if options.command in ON_STORES:
            return _print_answer(_answer_of(options), options)
        if options.command in _ANSWERS:
            return _print_answer(_ANSWERS[options.command](options), options)
        output = _LISTS[options.command](options)
    except PulseError as error:
        _print_problems(error.problems if isinstance(error, ConfigError) else [str(error)])
        if options.command == "health":  # probes know 0, 1 and 2
            return WRONG
        return next((status for kind, status in _STATUSES if isinstance(error, kind)), WRONG)
    except KeyboardInterrupt:
        return INTERRUPTED
    _print_lines(output.lines)
    return _print_problems(output.problems)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; a target may also come after an option that follows the task.

    argparse gives both positions to the first word that it meets before an option.
    """
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    passed_on: list[str] = []
    if words[:1] == ["worker"] and "--" in words:
        end = words.index("--")
        words, passed_on = words[:end], words[end + 1 :]
    options, rest = make_parser().parse_known_args(words)
    options.passed_on = passed_on
    is_free = getattr(options, "target", "") is None
    if len(rest) == 1 and is_free and is_target(rest[0]):
        options.target, rest = rest[0], []
    if rest:
        hint = "; put the options of Celery after --" if options.command == "worker" else ""
        options.parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    return options


def _answer_of(options: argparse.Namespace) -> Answer:
    from pulse.cli.target import name_hint, open_target, settings_of

    task = getattr(options, "task", None)
    if options.target is None and task is not None and is_target(task):
        options.task, options.target = None, task
    if options.target is None and is_target(getattr(options, "time", "")):
        raise ConfigError([f"TIME: expected such as 2026-11-28T03:00, got {options.time!r}"])
    module, _, name = ON_STORES[options.command].partition(":")
    answer: Callable[[SchedulerHandle, argparse.Namespace], Answer]
    answer = getattr(import_module(module), name)
    options.settings = settings_of(options)
    handle = open_target(options.settings)
    try:
        return answer(handle, options)
    except UnknownTaskError as error:
        hint = name_hint(options)
        raise type(error)(f"{error}{hint}") from None
    finally:
        handle.close()


def _print_answer(answer: Answer, options: argparse.Namespace) -> int:
    from pulse.cli.answers import show, text_of

    if answer.page and not options.json:
        return _print_page(answer, options.command)
    if options.json or sys.stdout is None or not sys.stdout.isatty():
        _print_lines(text_of(answer, as_json=options.json))
        for line in answer.notes() if not options.json else ():
            print(f"pulse: {line}", file=sys.stderr)  # noqa: T201 - beside the table in the pipe
    else:
        show(answer)
    return answer.status


def _print_page(answer: Answer, command: str) -> int:
    """Print a page for a file or a pipe, in UTF-8 whatever the terminal has.

    Raises:
        ConfigError: stdout is a terminal.

    """
    if sys.stdout is None or sys.stdout.isatty():
        raise ConfigError(
            [f"{command}: expected a file or a pipe for the page, such as > week.html"]
        )
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    _print_lines([answer.page])
    return answer.status


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
    from pulse.cli import check

    return check.check(
        options.file,
        clock=SystemClock(),
        section=options.section,
        global_conf=dict(options.globals),
    )


def _next(options: argparse.Namespace) -> Answer:
    from pulse.cli import next as upcoming

    result = upcoming.find_fire_times(
        options.expression,
        timezone=options.timezone,
        count=options.count,
        after=_this_second() if options.after is None else options.after,
    )
    return upcoming.answer(result)


def _simulate(options: argparse.Namespace) -> Answer:
    from pulse.cli import simulate

    result = simulate.forecasts(
        options.file,
        since=_this_second() if options.since is None else options.since,
        length_us=options.length,
        section=options.section,
        global_conf=dict(options.globals),
        took=dict(options.took),
    )
    answer = simulate.answer(result)
    if not options.html:
        return answer
    from pulse.cli.report import simulation_page_of

    return answer._replace(page=simulation_page_of(options.file, result))


def _run(options: argparse.Namespace) -> Answer:
    from pulse.cli.run import run

    return run(options)


def _convert(options: argparse.Namespace) -> CommandOutput:
    from pulse.cli.convert.command import convert

    return convert(options)


def _completion(options: argparse.Namespace) -> CommandOutput:
    from importlib.util import find_spec

    from pulse.cli.output import CommandOutput
    from pulse.errors import missing_extra

    if find_spec("shtab") is None:
        raise missing_extra("completion", "shtab", "cli")
    import shtab

    return CommandOutput([shtab.complete(make_parser(), options.shell)], [])


def _hash_password(options: argparse.Namespace) -> CommandOutput:
    from pulse.cli.health import hash_of_password

    return hash_of_password(options)


def _worker(options: argparse.Namespace) -> CommandOutput:
    from pulse.cli.worker import start_worker

    start_worker(options)


def _this_second() -> Instant:
    now = SystemClock().wall()
    return now - now % SECOND


_ANSWERS: dict[str, Callable[[argparse.Namespace], Answer]] = {
    "next": _next,
    "run": _run,
    "simulate": _simulate,
}
"""The commands that need no store to answer."""

_LISTS: dict[str, Callable[[argparse.Namespace], CommandOutput]] = {
    "check": _check,
    "completion": _completion,
    "convert": _convert,
    "hash-password": _hash_password,
    "worker": _worker,
}
"""The commands that print lines, for people or for files, and problems beside them."""
