"""Names that all stores make by the same rules, and the check of a layout's version.

The names of schemas, tables, keys and files are stored data: a release that changes one no longer
finds the data of earlier releases. `tests/unit/store/test_naming.py` holds literal names.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from pulse.errors import StoreSchemaError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection


def application_id(name: str, *, joint: str = "_") -> str:
    """Return the readable part of a storage's names that identifies one application.

    Two applications never share an id, and the id is valid in names of SQL tables and schemas.

    Args:
        name: `pulse.config.name`; empty for an application without a name.
        joint: the character before the hash.

    """
    return f"{slug(name.lower(), '_', 24) or 'app'}{joint}{short_hash(name)}"


def slug(text: str, separator: str, length: int) -> str:
    """Return at most *length* lower-case ASCII letters, digits and separators of *text*."""
    return re.sub(r"[^A-Za-z0-9]+", separator, text).strip(separator).lower()[:length]


def short_hash(text: str) -> str:
    """Return eight hexadecimal digits that differ for different texts."""
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=4).hexdigest()


def nothing_kept(name: object, space: str) -> StoreUnavailableError:
    """Return the error of a storage in which no server keeps anything of an application.

    Args:
        name: the storage, as errors name it.
        space: `pulse.config.name` of the application; empty without one.

    """
    whose = f"the application named {space!r}" if space else "an application without a name"
    return StoreUnavailableError(
        f"{name}: expected what a server has stored for {whose}, got nothing; start the server, or"
        " name its application (pulse.config.name) by --name"
    )


def refuse_other_version(
    name: object,
    version: int | None,
    *,
    current: int,
    migrated: Collection[int | None] = (),
    separate: str = "pulse.config.name",
) -> None:
    """Raise StoreSchemaError unless this release can use a layout.

    Args:
        name: the storage, as errors name it.
        version: the version of the layout in the storage; None if there is no layout.
        current: the version that this release writes.
        migrated: other versions that this release accepts.
        separate: what the application of another release needs one of its own of.

    """
    if version == current or version in migrated:
        return
    age = "a newer" if version is not None and version > current else "an older"
    raise StoreSchemaError(
        f"{name}: expected layout version {current}, got {version}, which {age} release of pulse"
        f" wrote; run one release everywhere, or give each its own {separate}"
    )
