"""The path of the default store's file, and checks of the folder of a file."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from pulse.store.naming import short_hash, slug

_NETWORK = frozenset(
    """9p afs beegfs ceph cifs fuse.ceph fuse.glusterfs fuse.sshfs gfs2 gpfs lustre nfs nfs4
    ocfs2 smb3 smbfs vboxsf""".split()  # noqa: SIM905 - a list of this length is read as words
)
_ESCAPE = re.compile(r"\\([0-7]{3})")


def default_path(name: str | None, origin: str) -> Path | None:
    """Return the file that all processes of this user with the same name or origin share.

    The folder is created. It is the user's state directory, or a folder of the user in /var/tmp;
    None if neither is writable.

    Args:
        name: `pulse.config.name`, which names the file if it is set.
        origin: the ini file or the working directory, which names the file otherwise.

    """
    for folder in _folders():
        if folder.is_absolute() and is_usable(folder):
            return folder / file_name(name, origin)
    return None


def existing_path(name: str | None, origin: str) -> Path | None:
    """Return the file that `default_path` names if it exists; creates nothing."""
    files = (folder / file_name(name, origin) for folder in _folders())
    return next((file for file in files if file.is_file()), None)


def _folders() -> tuple[Path, ...]:
    from platformdirs import user_state_path

    return user_state_path("pulse", appauthor=False), own_folder(Path("/var/tmp"))  # noqa: S108 - its owner and mode are checked


def own_folder(shared: Path) -> Path:
    """Return the folder of this user in a directory that all users can write."""
    return shared / f"pulse-{os.geteuid()}"


def file_name(name: str | None, origin: str) -> str:
    """Return a readable file name that is different for each name and each origin."""
    if name:
        return _file_name("name", name, readable=name)
    real = Path(os.path.realpath(origin))
    # The root directory has no name, and so no suffix.
    words = (real.with_suffix("") if real.name else real).parts[-2:]
    return _file_name("origin", str(real), readable="-".join(words))


def _file_name(kind: str, text: str, *, readable: str) -> str:
    digest = short_hash(f"{kind}\0{text}")  # a name and an origin never share a file
    return f"{slug(readable, '-', 40) or 'pulse'}-{digest}.db"


def is_usable(folder: Path) -> bool:
    """Create *folder* if it is missing; return whether this user alone can write to it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return own and not found.st_mode & 0o022 and os.access(folder, os.W_OK | os.X_OK)


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
