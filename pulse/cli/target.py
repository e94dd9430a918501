"""What a command works on: the store that an ini file, an application or a URL names."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.child.client import make_client_handle
from pulse.clock import SystemClock
from pulse.config.loader import load
from pulse.errors import ConfigError, PulseError, StoreUnavailableError, shown_url
from pulse.store.factory import find_file, uses_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pulse.cli.load import LoadedSection
    from pulse.config.settings import Settings
    from pulse.handle.handle import SchedulerHandle

STORE_VARIABLE = "PULSE_STORE"
"""The environment variable with the URL of a store, for commands that are given no target."""

FORMS = "FILE.ini, package.module:app, --store URL, or the environment variable PULSE_STORE"


def open_target(settings: Settings) -> SchedulerHandle:
    """Return a handle that works on the store of *settings*.

    Raises:
        StoreUnavailableError: no server has used the store yet, or no other process can reach it.

    """
    if settings.store == "memory:":
        raise StoreUnavailableError(
            "pulse.config.store = memory: expected a store that this command can reach, got one"
            " inside each process of the server; set a store such as sqlite:///pulse.db"
        )
    path = find_file(settings.store, name=settings.name, origin=settings.origin)
    if path is None and uses_file(settings.store):
        where = "the default store" if settings.store is None else shown_url(settings.store)
        raise StoreUnavailableError(
            f"{where}: expected a file that a server has made, got none; start the server, run the"
            " command as its user, or name the file of the server's log by --store sqlite:///PATH"
        )
    return make_client_handle(settings, clock=SystemClock())


def name_hint(options: argparse.Namespace) -> str:
    """Return what to try where a store of a URL has nothing; an empty text for other targets."""
    if options.target is not None or options.name is not None:
        return ""
    if options.store is None and STORE_VARIABLE not in os.environ:
        return ""
    return "; an application with a pulse.config.name is found by --name"


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings of what the options name; those of a URL say where the store is.

    Raises:
        ConfigError: the options name no store, or several.

    """
    store = options.store
    if options.target is not None and store is not None:
        raise ConfigError([f"--store: expected no target beside it, got {options.target}"])
    if options.target is None and store is None:
        store = os.environ.get(STORE_VARIABLE) or None
    if store is not None:
        return load({}, {"store": store} | ({"name": options.name} if options.name else {}))
    from pulse.cli.load import load_target  # with the middleware, which a URL does not need

    word = options.target or _file_of_folder(getattr(options, "task", None))
    loaded = load_target(word, section=options.section, global_conf=dict(options.globals))
    if loaded.problems:
        raise ConfigError(loaded.problems)
    return _one_of(word, loaded.sections, options.name)


def _one_of(word: str, sections: Sequence[LoadedSection], name: str | None) -> Settings:
    """Return the settings of the one application that the sections configure."""
    found = [one for one in sections if name is None or one.settings.name == name]
    if not found:
        names = ", ".join(sorted({one.settings.name or "none" for one in sections})) or "no pulse"
        raise ConfigError([f"--name: expected a name that {word} configures ({names}), got {name}"])
    from pulse.serving.identity import identity_of  # with the servers, which a URL does not need

    if len({identity_of(one.settings) for one in found}) > 1:
        labels = ", ".join(f"[{one.name}] {one.settings.name or ''}".strip() for one in found)
        raise ConfigError([f"{word}: expected one pulse, got {labels}; choose by --section/--name"])
    return found[0].settings


def _file_of_folder(task: str | None) -> str:
    """Return the only ini file of the working directory that configures pulse."""
    from pulse.cli.load import load_file

    found: list[str] = []
    for file in sorted(Path().glob("*.ini")):
        try:
            if load_file(file).sections:
                found.append(file.name)
        except PulseError:
            continue
    if len(found) != 1:
        got = f"several: {', '.join(found)}" if found else "none"
        read = "" if task is None else f" ({task!r} was read as the name of a task)"
        raise ConfigError(
            [f"expected {FORMS}; got nothing{read}, and ini files of pulse here: {got}"]
        )
    print(f"pulse: {found[0]}", file=sys.stderr)  # noqa: T201 - the output of the command
    return found[0]
