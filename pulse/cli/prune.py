"""`pulse prune` deletes old runs from the history."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pulse.cli.answers import Answer
from pulse.cli.progress import ProgressBar
from pulse.cli.steer import who
from pulse.clock import SECOND
from pulse.errors import ConfigError
from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    import argparse

    from pulse.handle.handle import SchedulerHandle


NOT_CONFIRMED = 1


def prune(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """Delete ended runs that are older than the options say.

    Raises:
        ConfigError: somebody has to confirm the deletion, and there is no terminal to ask at.

    """
    which = _described(options)
    if not options.dry_run and not options.yes and not _is_confirmed(handle, options, which):
        return Answer({"runs": 0, "dry_run": False}, (), ["nothing is deleted"], NOT_CONFIRMED)
    number = _prune(handle, options, dry_run=options.dry_run)
    done = "would be deleted" if options.dry_run else "deleted"
    document = {"runs": number, "dry_run": options.dry_run}
    return Answer(document, (), [f"{number:,} {which} {done}"])


def _prune(handle: SchedulerHandle, options: argparse.Namespace, *, dry_run: bool) -> int:
    with ProgressBar("counted" if dry_run else "deleted") as bar:
        return handle.prune(
            older=options.older / SECOND,
            task=options.task,
            outcomes=options.outcome,
            by=who(options),
            dry_run=dry_run,
            progress=bar.reach,
        )


def _described(options: argparse.Namespace) -> str:
    outcomes = f"{', '.join(options.outcome)} " if options.outcome else ""
    task = f" of {options.task}" if options.task else ""
    return f"{outcomes}runs{task} older than {duration_text(options.older)}"


def _is_confirmed(handle: SchedulerHandle, options: argparse.Namespace, which: str) -> bool:
    """Ask at the terminal whether the runs may be deleted; anything but yes means no."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        raise ConfigError(
            ["prune: expected -y to confirm the deletion, or --dry-run; here is no terminal to ask"]
        )
    number = _prune(handle, options, dry_run=True)
    print(f"delete {number:,} {which}? [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201 - the output of the command
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
