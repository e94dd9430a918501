"""Refuses requests of outsiders for scheduled paths, and identifies requests of pulse.

Theory of operation
-------------------
`Guard` stores the guarded paths as a tree of canonical segments. A request is refused if the
canonical form of its path, with or without its script name, is a guarded path or below a guarded
path. The last segment is compared with and without each of its extensions; a last segment that is
an extension alone, as in `cleanup/.json`, may be dropped by a router, and then the segment before
it is the last one. A guarded path that ends in an extension, of either kind, guards the path
without extensions, too, but not what is below: the empty segment marks such an end in the tree. The
check uses only the path and runs before the application. Paths that were allowed are cached, so
that an ordinary request needs one look-up in a set.

`Guard` does not know further routes to a view. For such views `pulse.only` calls `is_run` at the
view itself. The proof of a request of pulse is a `Run` object in the environ, which no HTTP request
can contain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from pulse.core.run import Run
from pulse.errors import BadValueError, ConfigError, shown
from pulse.guard.canonical_path import (
    canonical_form,
    end_names,
    last_position,
    names_of,
    resolve_dot_segments,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from wsgiref.types import StartResponse, WSGIEnvironment


PULSE_HEADERS = (
    "HTTP_X_PULSE_TASK",
    "HTTP_X_PULSE_FIRE_TIME",
    "HTTP_X_PULSE_RUN_ID",
    "HTTP_X_PULSE_ATTEMPT",
    "HTTP_X_PULSE_TRIGGER",
)
"""The environ names of headers that only pulse may send; the middleware removes others."""

MAX_ALLOWED_CACHED = 4_096
"""The maximum number of cached paths of a guard."""

MAX_CACHED_LENGTH = 256
"""The maximum length of script name and path together in the cache."""

_REFUSAL = b"403 Forbidden\n"

_END = ""
"""The segment that ends a guarded path whose lower paths are not guarded."""

_Tree: TypeAlias = "dict[str, _Tree]"


class Guard:
    """Refuses requests of outsiders for guarded paths and all paths below them.

    A decision takes microseconds, so `allowed` caches paths that are allowed. A middleware can
    avoid a function call if it checks the cache first:

        key = environ.get("SCRIPT_NAME"), environ.get("PATH_INFO")
        if key not in guard.allowed and guard.refuses(environ):
            return forbid(environ, start_response)

    The middleware must read the set from the guard for each request, because `add` replaces it.

    The cache needs no lock: a look-up, an addition and a clearing are atomic operations of the
    interpreter, and after any sequence of them the set contains only allowed paths. A full cache
    is cleared. A flood of random paths therefore costs ordinary paths a further decision from time
    to time, but cannot keep them out of the cache.

    Args:
        paths: a pair of task name and path (PEP 3333 text) for each path to guard.

    Raises:
        ConfigError: a path is the root, so that the guard would refuse every request; the error
            names all such tasks.

    """

    __slots__ = ("_tree", "allowed")

    def __init__(self, paths: Iterable[tuple[str, str]]) -> None:
        self.allowed: set[tuple[object, object]] = set()
        self._tree: _Tree = {}
        problems = [problem for name, path in paths if (problem := self._insert_path(name, path))]
        if problems:
            raise ConfigError(problems)

    def add(self, name: str, path: str) -> None:
        """Guard a further path.

        Raises:
            ConfigError: *path* is the root.

        """
        problem = self._insert_path(name, path)
        if problem:
            raise ConfigError([problem])
        self.allowed = set()  # a concurrent decision still adds to the old set

    def refuses(self, environ: WSGIEnvironment) -> bool:
        """Return whether the canonical path of *environ* is a guarded path."""
        key = environ.get("SCRIPT_NAME"), environ.get("PATH_INFO")
        allowed = self.allowed
        if key in allowed:
            return False
        script, path = key[0] or "", key[1] or ""
        if any(self._covers(candidate) for candidate in _candidate_paths(script, path)):
            return True
        if len(script) + len(path) <= MAX_CACHED_LENGTH:
            if len(allowed) >= MAX_ALLOWED_CACHED:
                allowed.clear()
            allowed.add(key)
        return False

    def _insert_path(self, name: str, path: str) -> str:
        canonical = canonical_form(path)
        lists = names_of(resolve_dot_segments(canonical.segments)) if canonical else [[]]
        if canonical is None or not lists[0]:
            return (
                f"{name}.action: expected a path below the root because guard = true would refuse "
                f"the whole site, got {shown(path)}"
            )
        if canonical.uncut:
            lists += names_of(resolve_dot_segments(canonical.uncut))
        for names in filter(None, lists):
            _insert_with_formats(self._tree, names)
        return ""

    def _covers(self, path: str) -> bool:
        canonical = canonical_form(path)
        if canonical is None:
            return True
        ambiguous = canonical.ambiguous or _is_address(path)
        for segments in (canonical.segments, canonical.uncut):
            for names in names_of(segments, replace_dots=not ambiguous) if segments else ():
                if (_matches_subsequence if ambiguous else _matches_path)(self._tree, names):
                    return True
        return False


def forbid(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Return a 403 response in plain text without a reason; the function is a WSGI application."""
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(_REFUSAL)))]
    start_response("403 Forbidden", headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [_REFUSAL]


def is_run(environ: Mapping[str, object]) -> bool:
    """Return whether pulse sent the request; no header can forge this.

    The proof is the `Run` object that pulse adds to the environ; an HTTP request contains only
    text.

    Raises:
        BadValueError: *environ* is no environ but, for example, the request of a framework.

    """
    try:
        return isinstance(environ.get("pulse.run"), Run)
    except AttributeError:
        expected = "the environ of a request, such as request.environ"
        raise BadValueError(expected, environ) from None


def _candidate_paths(script: str, path: str) -> Iterable[str]:
    """Return the paths that a router may use: with and without the script name."""
    if not script:
        return (path,)
    if path.startswith("/"):
        return path, script + path
    return path, script + path, f"{script}/{path}"


def _insert_with_formats(tree: _Tree, segments: Sequence[str]) -> None:
    """Add a path to *tree*; its last segment without its extensions guards no lower paths."""
    _insert(tree, segments)
    last = last_position(segments)
    if last < len(segments) - 1 or "." in segments[last]:
        for name in end_names(segments[last]):
            _insert(tree, [*segments[:last], name, _END])


def _insert(tree: _Tree, segments: Sequence[str]) -> None:
    """Add a path to *tree*; an empty node guards its path and all paths below it."""
    *inner, last = segments
    for depth, segment in enumerate(inner, start=1):
        node = tree.get(segment)
        if node is None:
            tree[segment] = _chain(
                segments[depth:]
            )  # atomic, because concurrent requests read the tree
            return
        if not node:
            return  # a parent path is guarded
        tree = node
    tree[last] = {}


def _chain(segments: Sequence[str]) -> _Tree:
    node: _Tree = {}
    for segment in reversed(segments):
        node = {segment: node}
    return node


def _is_address(path: str) -> bool:
    """Return whether a path may be parsed as an address: `//host/path` or `http://host/path`."""
    return path.startswith("//") or (not path.startswith("/") and "://" in path)


def _matches_path(tree: _Tree, segments: Sequence[str]) -> bool:
    """Return whether *segments*, with or without extensions at their end, are guarded."""
    last = last_position(segments)
    for position, segment in enumerate(segments):
        if position >= last and _has_end(tree, segment):
            return True
        node = tree.get(segment)
        if node is None:
            return False
        if not node:
            return True
        tree = node
    return False


def _has_end(tree: _Tree, segment: str) -> bool:
    """Return whether a guarded path ends at *segment*, with or without its extensions."""
    for name in end_names(segment) if "." in segment else (segment,):
        node = tree.get(name)
        if node is not None and (not node or _END in node):
            return True
    return False


def _matches_subsequence(tree: _Tree, segments: Iterable[str]) -> bool:
    """Return whether a subsequence of *segments* is a guarded path."""
    reached = {id(tree): tree}
    for segment in segments:
        names = end_names(segment) if "." in segment else (segment,)
        children = [node[name] for node in reached.values() for name in names if name in node]
        if any(not node or _END in node for node in children):
            return True
        reached.update((id(node), node) for node in children)
    return False
