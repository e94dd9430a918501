"""The path of the default store's file."""

from __future__ import annotations

import os
from pathlib import Path

from pulse.store.folders import creation_problem, folder_problem, is_usable, own_folder
from pulse.store.naming import short_hash, slug
from pulse.store.sqlite.releases import without_release


def default_path(name: str | None, origin: str) -> Path | None:
    """Return the file that all processes of this user with the same name or origin share.

    The folder is created. It is the user's state directory, or a folder of the user in /var/tmp;
    None if neither is usable.

    Args:
        name: `pulse.config.name`, which names the file if it is set.
        origin: the ini file or the working directory, which names the file otherwise; all releases
            of a site are one origin.

    """
    for folder in default_folders():
        if is_usable(folder):
            return folder / file_name(name, origin)
    return None


def existing_path(name: str | None, origin: str) -> Path | None:
    """Return the file that `default_path` names if it exists; creates nothing."""
    files = (folder / file_name(name, origin) for folder in default_folders())
    return next((file for file in files if file.is_file()), None)


def folder_problems(*, create: bool) -> list[str]:
    """Return why each folder of the default store is unusable; empty if one is usable.

    Without *create* nothing is created: a folder that can be created is usable.
    """
    problem_of = creation_problem if create else folder_problem
    problems = [problem_of(folder) for folder in default_folders()]
    return problems if all(problems) else []


def default_folders() -> list[Path]:
    """Return the folders of the default store; the first one that is usable has the file."""
    private = own_folder(Path("/var/tmp"))  # noqa: S108 - its owner and mode are checked
    return [folder for folder in (_state_folder(), private) if folder is not None]


def _state_folder() -> Path | None:
    """Return the user's state directory; None for a user without HOME and without an entry."""
    from platformdirs import user_state_path

    try:
        folder = user_state_path("pulse", appauthor=False)
    # RuntimeError is that of pathlib; the others come from a table of users in a network.
    except (RuntimeError, KeyError, OSError):
        return None
    return folder if folder.is_absolute() else None


def file_name(name: str | None, origin: str) -> str:
    """Return a readable file name that is different for each name and each origin."""
    if name:
        return _file_name("name", name, readable=name)
    real = without_release(Path(os.path.realpath(origin)))
    # The root directory has no name, and so no suffix.
    words = (real.with_suffix("") if real.name else real).parts[-2:]
    return _file_name("origin", str(real), readable="-".join(words))


def _file_name(kind: str, text: str, *, readable: str) -> str:
    digest = short_hash(f"{kind}\0{text}")  # a name and an origin never share a file
    return f"{slug(readable, '-', 40) or 'pulse'}-{digest}.db"
