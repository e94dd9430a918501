"""The style sheet, the script and the icons, which are read once, at the first page."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

from pulse.web.responses import HttpAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE: Final = "pulse.web.dashboard"
FOLDER: Final = "static"
_TYPES: Final = {
    "pulse.css": "text/css; charset=utf-8",
    "pulse.js": "text/javascript; charset=utf-8",
    "fine.svg": "image/svg+xml",
    "wrong.svg": "image/svg+xml",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Assets(NamedTuple):
    """The files by path, and the path of each by its name; a path holds a hash of its content."""

    by_path: Mapping[str, HttpAnswer]
    paths: Mapping[str, str]
    texts: Mapping[str, str]


@cache
def assets() -> Assets:
    """Return all files; no path of a request is ever joined with a folder."""
    by_path, paths, texts = {}, {}, {}
    for name, kind in _TYPES.items():
        content = (files(PACKAGE) / FOLDER / name).read_bytes()
        stem, _, suffix = name.rpartition(".")
        path = f"{FOLDER}/{stem}-{hashlib.sha256(content).hexdigest()[:12]}.{suffix}"
        by_path[path] = HttpAnswer(200, content, kind, caching=_FOR_EVER)
        paths[name], texts[name] = path, content.decode()
    return Assets(by_path, paths, texts)
