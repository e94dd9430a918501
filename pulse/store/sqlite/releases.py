"""Paths in release directories: the releases of one site share the file of the default store.

Capistrano, Deployer, Ansible's deploy_helper and similar tools put each release in a folder of its
own, and let a link point to the one that is in use:

    /site/current -> releases/20261129030405

A process sees the link or the folder: the working directory is always a real path (getcwd(2)).
Therefore the folder of a release is recognised by its place and its name, and replaced by the path
of the link. Kubernetes mounts a ConfigMap in the same way, as `..data -> ..2026_11_29_03_04_05.1`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_CURRENT = "current"
_CONFIG_MAP = "..data"
_RELEASES = "releases"
"""The folder that holds releases by convention, and nothing else."""
_FOLDERS = frozenset({"builds", "deploys", "deployments", "revisions", "versions"})
"""Folders that hold releases if a link leads to one; else each folder in them is an application."""

_VERSION = re.compile(
    r"v?\d+(?:[._-]\d+)*(?:[.-]?(?:a|alpha|b|beta|rc|pre|post|dev)[.-]?\d*)?Z?"
    r"|[0-9a-f]{7,64}|\.\.\d{4}_\d\d_\d\d_[\d_.]+",
    re.IGNORECASE,
)
"""A number, a date, a version, a hash of a commit, or a folder of a ConfigMap; no other word."""


def without_release(path: Path) -> Path:
    """Return a real path with the folder of the release replaced, equal for all releases of a site.

    A path that lies in no release is returned unchanged.
    """
    number = 2
    while number < len(path.parts):
        link = _link_of(Path(*path.parts[: number + 1]))
        number += 1
        if link is not None:
            path, number = link.joinpath(*path.parts[number:]), len(link.parts)
    return path


def _link_of(folder: Path) -> Path | None:
    """Return the path of the link to the release in use if *folder* is a release, else None."""
    beside, above = folder.parent, folder.parent.parent
    is_version = _VERSION.fullmatch(folder.name) is not None
    name, link = beside.name.lower(), above / _CURRENT
    if name == _RELEASES and is_version:
        return link
    if name == _RELEASES or name in _FOLDERS:
        return link if _leads_into(link, beside) else None
    if not is_version:
        return None
    links = (beside / _CONFIG_MAP, beside / _CURRENT, above / _CURRENT)
    return next((link for link in links if _leads_into(link, beside)), None)


def _leads_into(link: Path, folder: Path) -> bool:
    """Return whether *link* is a symbolic link to a folder directly in *folder*."""
    return link.is_symlink() and Path(os.path.realpath(link)).parent == folder
