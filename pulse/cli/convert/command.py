"""The command `pulse convert`: reads another scheduler's schedules and prints settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.cli.convert.converted import as_ini, as_python, checked
from pulse.cli.output import CommandOutput
from pulse.clock import SystemClock
from pulse.engine.child_application import find_named
from pulse.errors import ConfigError
from pulse.worker.loading import imported

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from pulse.cli.convert.converted import Converted


def convert(options: argparse.Namespace) -> CommandOutput:
    """Return the settings as text; each entry that cannot be converted is a problem."""
    found = checked(_read(options))
    lines = as_python(found) if options.python else as_ini(found)
    problems = [
        f"{one.source}: {'; '.join(one.notes)}" for one in found if one.name and one.is_refused
    ]
    return CommandOutput(lines, problems)


def _read(options: argparse.Namespace) -> Iterable[Converted]:
    if options.kind == "crontab":
        from pulse.cli.convert.crontab import convert_crontab

        return convert_crontab(_text(options.source), with_user=options.user_field)
    source = imported(options.source, find_named, what="a module")
    if options.kind == "celery":
        from pulse.cli.convert.celery_beat import convert_beat

        return convert_beat(source)
    from pulse.cli.convert.apscheduler import convert_jobs

    return convert_jobs(source, now=SystemClock().wall())


def _text(name: str) -> str:
    if name == "-":
        return sys.stdin.read()
    try:
        return Path(name).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ConfigError([f"expected a crontab to read, got {error}"]) from None
