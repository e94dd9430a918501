"""Crontabs: `crontab(5)` of Debian's cron."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pulse.cli.convert.converted import Converted, task_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>.*)")
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ZONES = frozenset({"CRON_TZ", "TZ"})
_FIELDS = 5
_CLIENTS = frozenset({"curl", "wget"})
_HARMLESS = frozenset({"SHELL", "PATH", "HOME", "LOGNAME"})


def convert_crontab(text: str, *, with_user: bool = False) -> Iterator[Converted]:
    """Yield what each line of a crontab becomes.

    Args:
        text: the crontab.
        with_user: whether a line has the user after the fields, as `/etc/crontab` does.

    """
    zone = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        variable = _VARIABLE.fullmatch(stripped)
        if variable is not None:
            name, value = variable["name"], variable["value"].strip("\"' ")
            if name in _ZONES:
                zone = value
            elif name not in _HARMLESS:
                notes = [f"{name}: no counterpart"]
                yield Converted("", f"line {number}: {stripped}", {}, notes)
            continue
        yield _entry(f"line {number}: {stripped}", stripped, zone, with_user=with_user)


def _entry(source: str, line: str, zone: str, *, with_user: bool) -> Converted:
    macro = line.split(None, 1)[0].lower() if line.startswith("@") else ""
    count = (1 if macro else _FIELDS) + with_user
    words = line.split(None, count)
    command = words[count] if len(words) > count else ""
    if not command:
        return Converted(task_name(line), source, {}, ["expected fields and a command"])
    name, action = _called(command)
    notes = ["% begins the input of the command: set body"] if "%" in command else []
    if macro == "@reboot":
        notes.append(
            "@reboot: no counterpart; run_at_start = true beside a schedule runs the task once,"
            " when the store first sees it"
        )
        return Converted(name, source, {}, notes)
    if macro and macro not in _MACROS:
        return Converted(name, source, {}, [f"{macro}: no such schedule"])
    settings = {"action": action}
    settings["cron"] = _MACROS[macro] if macro else " ".join(words[:_FIELDS])
    if zone:
        settings["timezone"] = zone
    else:
        notes.append("crontab uses the machine's time zone, pulse UTC: set timezone")
    return Converted(name, source, settings, notes)


def _called(command: str) -> tuple[str, str]:
    """Return a name for the task of a command, and the path that it requests or may request."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    program = words[0].rpartition("/")[2] if words else "task"
    if program in _CLIENTS:
        urls = [word for word in words[1:] if word.startswith(("http://", "https://"))]
        if urls:
            parts = urlsplit(urls[0])
            path = parts.path or "/"
            return task_name(path.strip("/") or program), path + (
                f"?{parts.query}" if parts.query else ""
            )
    name = task_name(program.partition(".")[0])
    return name, f"/tasks/{name}"
