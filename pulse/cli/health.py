"""`pulse health`, for probes that run a command, and `pulse hash-password`, for `access`."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

from pulse.cli.answers import Answer, Listing
from pulse.cli.output import CommandOutput
from pulse.errors import ConfigError, NotServingError, StoreError
from pulse.handle.health import HealthStatus
from pulse.web.health import view_health
from pulse.web.passwords import hash_password

if TYPE_CHECKING:
    import argparse

    from pulse.handle.handle import SchedulerHandle

STATUSES = {HealthStatus.PASS: 0, HealthStatus.WARN: 1, HealthStatus.FAIL: 2}
"""The exit statuses, as monitoring plugins have them."""

SHORTEST_PASSWORD = 8


def health(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:  # noqa: ARG001 - one signature
    """Show whether the schedule is kept; the exit status is 0, 1 with warnings, 2 if it is not."""
    try:
        found = handle.health()
    except (StoreError, NotServingError) as error:
        return Answer({"health": None, "error": str(error)}, (), [f"fail: {error}"], 2)
    rows = [(one.status.value, one.kind, one.task, one.text) for one in found.problems]
    listings = [Listing(("status", "kind", "task", "text"), rows)] if rows else []
    processes = "process" if found.processes == 1 else "processes"
    summary = f"{found.status.value}: {found.tasks:,} tasks, {found.processes:,} {processes}"
    return Answer({"health": view_health(found)}, listings, [summary], STATUSES[found.status])


def hash_of_password(_: argparse.Namespace) -> CommandOutput:
    """Read a password at the terminal or from stdin, and print its hash.

    Raises:
        ConfigError: the password is too short, or was typed differently.

    """
    if sys.stdin is not None and sys.stdin.isatty():
        password = getpass.getpass("password: ")
        if getpass.getpass("again: ") != password:
            raise ConfigError(["password: expected the same text twice, got two"])
    else:
        password = sys.stdin.readline().rstrip("\n") if sys.stdin is not None else ""
    if len(password) < SHORTEST_PASSWORD:
        raise ConfigError(
            [f"password: expected at least {SHORTEST_PASSWORD} characters, got {len(password)}"]
        )
    return CommandOutput([hash_password(password)], [])
