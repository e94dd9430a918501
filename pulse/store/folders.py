"""Checks of a folder in which processes of one user keep files: owner, rights, file system."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

_NETWORK = frozenset(
    """9p afs beegfs ceph cifs fuse.ceph fuse.glusterfs fuse.sshfs gfs2 gpfs lustre nfs nfs4
    ocfs2 smb3 smbfs vboxsf""".split()  # noqa: SIM905 - a list of this length is read as words
)
_ESCAPE = re.compile(r"\\([0-7]{3})")


def own_folder(shared: Path) -> Path:
    """Return the folder of this user in a directory that all users can write."""
    return shared / f"pulse-{os.geteuid()}"


def is_usable(folder: Path) -> bool:
    """Create *folder* if it is missing; return whether this user alone can write to it."""
    return not creation_problem(folder)


def creation_problem(folder: Path) -> str:
    """Create *folder* if it is missing; return why it is unusable, as `folder_problem` does."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return folder_problem(folder) or f"{folder} cannot be created: {error.strerror}"
    return folder_problem(folder)


def folder_problem(folder: Path) -> str:
    """Return why this user cannot keep a store in *folder*, with the owner; empty if it can.

    Nothing is created. A folder that others can write to, or a link that another user may have
    made, is not usable: its owner could replace the file.
    """
    try:
        found = folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return _missing_problem(folder)
    except OSError as error:
        return _search_problem(folder) or f"{folder}: {error.strerror}"
    if stat.S_ISLNK(found.st_mode):
        problem = "is a symbolic link"
    elif not stat.S_ISDIR(found.st_mode):
        problem = "is no folder"
    elif found.st_uid != os.geteuid():
        problem = f"belongs to another user than {_user(os.geteuid())}"
    elif found.st_mode & 0o022:
        problem = "can be written by other users"
    elif not os.access(folder, os.W_OK | os.X_OK):
        problem = f"cannot be written by {_user(os.geteuid())}"
    else:
        return ""
    return f"{folder} {problem} ({_owner(found)})"


def _search_problem(folder: Path) -> str:
    """Return which parent of *folder* this user cannot search, with its owner; else empty."""
    parent, found = _nearest_parent(folder)
    if found is None or os.access(parent, os.X_OK):
        return ""
    problem = f"cannot be searched by {_user(os.geteuid())}"
    return f"{folder} cannot be reached: {parent} {problem} ({_owner(found)})"


def _missing_problem(folder: Path) -> str:
    """Return why *folder*, which is missing, cannot be created; empty if it can."""
    parent, found = _nearest_parent(folder)
    if found is None:
        return f"{folder} cannot be created"
    if not stat.S_ISDIR(found.st_mode):
        problem = "is no folder"
    elif not os.access(parent, os.W_OK | os.X_OK):
        problem = f"cannot be written by {_user(os.geteuid())}"
    else:
        return ""
    return f"{folder} cannot be created: {parent} {problem} ({_owner(found)})"


def _nearest_parent(folder: Path) -> tuple[Path, os.stat_result | None]:
    """Return the nearest parent of *folder* that can be examined, and what it is."""
    for parent in folder.parents:
        with contextlib.suppress(OSError):
            return parent, parent.stat()
    return folder, None


def _owner(found: os.stat_result) -> str:
    return f"owner {_user(found.st_uid)}, mode {stat.S_IMODE(found.st_mode):04o}"


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OSError):
        return f"uid {number}"


def network_file_system(path: Path, *, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the type of the network file system that holds *path*; empty for a local disk."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real = Path(os.path.realpath(path))
    best, kind = Path("/"), ""
    for line in lines:
        fields = line.split()
        point = Path(_ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[1]))
        if real.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, fields[2]
    return kind if kind in _NETWORK else ""
