"""Keeps outsiders off scheduled paths, and tells the app which requests are pulse's own.

`Guard` judges by the path alone, before the app sees the request. It cannot know the aliases of a
view; for those there is `pulse.only`, which asks `is_run` at the view itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from pulse.core.run import Run
from pulse.errors import BadValueError, ConfigError, shown
from pulse.guard.canonical_path import read, resolve, stem, stems

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from wsgiref.types import StartResponse, WSGIEnvironment

    from pulse.guard.canonical_path import Reading

PULSE_HEADERS = (
    "HTTP_X_PULSE_TASK",
    "HTTP_X_PULSE_FIRE_TIME",
    "HTTP_X_PULSE_RUN_ID",
    "HTTP_X_PULSE_ATTEMPT",
    "HTTP_X_PULSE_TRIGGER",
)
"""The environ names of the headers that only pulse may send; ordinary requests lose them."""

MOST_PASSED = 4_096
"""How many paths the memo of a guard holds."""

LONGEST_PASSED = 256
"""How long script name and path together may be to be kept in the memo."""

_REFUSAL = b"403 Forbidden\n"

_Tree: TypeAlias = "dict[str, _Tree]"


class Guard:
    """Refuses requests from outside to guarded paths and to all below them.

    Deciding costs microseconds, so what was let through once is remembered. A middleware that
    cannot spare a call asks the memo itself, and the guard only about what is not there:

        key = environ.get("SCRIPT_NAME"), environ.get("PATH_INFO")
        if key not in guard.passed and guard.refuses(environ):
            return forbid(environ, start_response)

    The set must be read from the guard each time, because `add` replaces it.

    The memo needs no lock: a look-up, an addition and a clearing are each one step of the
    interpreter, and whatever comes between them leaves a set of paths that may pass. It is
    emptied when it is full rather than closed: a flood of random paths then costs the honest
    ones a decision anew from time to time, but cannot shut them out.

    Args:
        paths: a pair of task name and path (PEP 3333 text) for each path to guard.

    Raises:
        ConfigError: a path is the root, so that every request would be refused; all such tasks
            are named.

    """

    __slots__ = ("_tree", "passed")

    def __init__(self, paths: Iterable[tuple[str, str]]) -> None:
        self.passed: set[tuple[object, object]] = set()
        self._tree: _Tree = {}
        problems = [problem for name, path in paths if (problem := self._plant(name, path))]
        if problems:
            raise ConfigError(problems)

    def add(self, name: str, path: str) -> None:
        """Guard one more path from now on.

        Raises:
            ConfigError: it is the root.

        """
        problem = self._plant(name, path)
        if problem:
            raise ConfigError([problem])
        self.passed = set()  # a decision under way still adds to the old one

    def refuses(self, environ: WSGIEnvironment) -> bool:
        """Return whether the request of *environ* asks for a guarded path, however it is spelt."""
        key = environ.get("SCRIPT_NAME"), environ.get("PATH_INFO")
        passed = self.passed
        if key in passed:
            return False
        script, path = key[0] or "", key[1] or ""
        if any(self._covers(spelling) for spelling in _spellings(script, path)):
            return True
        if len(script) + len(path) <= LONGEST_PASSED:
            if len(passed) >= MOST_PASSED:
                passed.clear()
            passed.add(key)
        return False

    def _plant(self, name: str, path: str) -> str:
        reading = read(path)
        segments = resolve(reading) if reading else []
        if not segments:
            return (
                f"{name}.action: expected a path below the root because guard = true would refuse "
                f"the whole site, got {shown(path)}"
            )
        _plant(self._tree, segments)
        return ""

    def _covers(self, path: str) -> bool:
        reading = read(path)
        return reading is None or _holds(self._tree, reading)


def forbid(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer 403 in plain text, without saying why; a WSGI app."""
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(_REFUSAL)))]
    start_response("403 Forbidden", headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [_REFUSAL]


def is_run(environ: Mapping[str, object]) -> bool:
    """Return whether pulse itself sent this request, which no header can claim.

    The proof is the object that pulse puts into the environ; everything that comes over the wire
    is text.

    Raises:
        BadValueError: it is a framework's request, say, and no environ.

    """
    try:
        return isinstance(environ.get("pulse.run"), Run)
    except AttributeError:
        expected = "the environ of a request, such as request.environ"
        raise BadValueError(expected, environ) from None


def _spellings(script: str, path: str) -> Iterable[str]:
    """Return what a router may take for the path: with the script name before it, or without."""
    if not script:
        return (path,)
    if path.startswith("/"):
        return path, script + path
    return path, script + path, f"{script}/{path}"


def _plant(tree: _Tree, segments: Sequence[str]) -> None:
    """Add a path to *tree*, where an empty node guards itself and all below it."""
    *inner, last = segments
    for depth, segment in enumerate(inner, start=1):
        node = tree.get(segment)
        if node is None:
            tree[segment] = _chain(segments[depth:])  # whole, because requests look meanwhile
            return
        if not node:
            return  # a path above is guarded already
        tree = node
    tree[last] = {}


def _chain(segments: Sequence[str]) -> _Tree:
    node: _Tree = {}
    for segment in reversed(segments):
        node = {segment: node}
    return node


def _holds(tree: _Tree, reading: Reading) -> bool:
    segments = reading.segments
    if reading.loose:
        return _holds_scattered(tree, segments)
    if _leads_to_end(tree, segments):
        return True
    return bool(segments) and _leads_to_end(tree, [*segments[:-1], stem(segments[-1])])


def _leads_to_end(tree: _Tree, segments: Iterable[str]) -> bool:
    for segment in segments:
        node = tree.get(segment)
        if node is None:
            return False
        if not node:
            return True
        tree = node
    return False


def _holds_scattered(tree: _Tree, segments: Iterable[str]) -> bool:
    """Return whether some of *segments*, in their order, lead to the end of a guarded path."""
    reached = {id(tree): tree}
    for segment in segments:
        words = stems(segment)
        found = [node[word] for node in reached.values() for word in words if word in node]
        if not all(found):
            return True
        reached.update((id(node), node) for node in found)
    return False
