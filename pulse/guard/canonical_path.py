"""The canonical form of a request path: one form for all paths that a router may treat as equal.

Theory of operation
-------------------
Routers normalize paths differently. A router may merge slashes, resolve dot segments, ignore case,
or drop `;params`. The canonical form applies all normalizations at once. For some paths the result
depends on the order of the normalizations: paths with dot segments, with `?` or `#`, or with
slashes and dots that appear only after decoding. The form of such a path is marked as ambiguous. A
router may then see fewer segments than the canonical form contains, but never other segments, and
never in another order.

CherryPy and TurboGears look up a segment with an underscore for each punctuation mark, also for
marks at which other routers cut a segment. The form of a path with such a mark therefore has a
second list of segments, which are not cut.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import normalize
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PASSES = 8
"""The maximum number of decoding rounds; an ordinary path needs two."""

MAX_DOTS = 16
"""The maximum number of dots of a segment that may begin its extension, which bounds the cost."""

_LETTERS_OF_I = {0x130: "i", 0x131: "i"}
"""Two letters that `re.IGNORECASE` matches with an i although case folding does not."""

_VIEW_SELECTORS = re.compile(r"(^|/)(?:\+\+view\+\+|@@|\+)+")
"""What selects a view by its name: `@@` in Pyramid and Zope, `+` in Morepath."""

_UNDERSCORES = str.maketrans(dict.fromkeys("!\"#$%&'()*+,-:;<=>?@[\\]^`{|}~", "_"))
"""ASCII punctuation without the dot, the slash and the underscore."""

_punctuation = re.compile(r"[!-,:-@\[-^`{-~-]").search

_UNCUT = str.maketrans(";?#\\", "____")
"""The marks at which the canonical form cuts or splits a segment."""

_CUTS = ("?", "#", "/++")
"""Marks after which a router may ignore text: a query, a fragment, a namespace of Zope."""

_plain = re.compile(r"[A-Za-z0-9/_.~-]*").fullmatch
_PARAMETERS = re.compile(r"[;?#].*", re.DOTALL)


class CanonicalPath(NamedTuple):
    """The canonical form of a path.

    Attributes:
        segments: the normalized segments, without empty segments and single dots.
        ambiguous: whether the form is ambiguous: a router may see only some of the segments, in the
            same order, or an extension that contains dots.
        uncut: the segments with an underscore for each `;`, `?`, `#` and backslash, at which
            *segments* are cut or split; empty if the path contains none of these marks.

    """

    segments: list[str]
    ambiguous: bool
    uncut: Sequence[str] = ()


def canonical_form(path: str) -> CanonicalPath | None:
    """Return the canonical form of *path* (PEP 3333 text), or None after too many decodings."""
    if _plain(path):
        segments = _nonempty(path.lower().split("/"))
        return CanonicalPath(segments, ".." in segments)
    raw = _normalize(_as_text(path))
    if raw is None:
        return None
    text = raw.replace("\\", "/")
    segments = _nonempty(_PARAMETERS.sub("", segment) for segment in text.split("/"))
    ambiguous = ".." in segments or _has_hidden_separators(path, text)
    uncut = raw.translate(_UNCUT)
    return CanonicalPath(segments, ambiguous, () if uncut == raw else _nonempty(uncut.split("/")))


def resolve_dot_segments(segments: Sequence[str]) -> list[str]:
    """Return the segments without each `..` and its preceding segment, never above the root."""
    resolved: list[str] = []
    for segment in segments:
        if segment != "..":
            resolved.append(segment)
        elif resolved:
            resolved.pop()
    return resolved


def names_of(segments: Sequence[str], *, replace_dots: bool = True) -> list[Sequence[str]]:
    """Return the lists of names by which a router may look up *segments*.

    CherryPy and TurboGears look up a segment with an underscore for each punctuation mark. Other
    routers drop the marks that select a view; further lists keep these marks as underscores. With
    *replace_dots*, there are also lists in which dots are underscores; see `_without_dots`.
    """
    text = "/".join(segments)
    lists = _without_punctuation(text) if _punctuation(text) else [segments]
    if replace_dots and "." in text:
        return [names for each in lists for names in (each, *_without_dots(each))]
    return lists


def _without_punctuation(text: str) -> list[Sequence[str]]:
    texts = [text]
    if "@@" in text or "+" in text:
        texts = [*dict.fromkeys((_VIEW_SELECTORS.sub(r"\1", text), text))]
    return [_nonempty(each.translate(_UNDERSCORES).split("/")) for each in texts]


def _without_dots(names: Sequence[str]) -> list[Sequence[str]]:
    """Return the lists of *names* with underscores for dots.

    CherryPy replaces all dots. TurboGears first removes the extension of the last name: therefore
    one list keeps the dots of the last name, and `end_names` replaces them.
    """
    last = last_position(names)
    replaced = [name.replace(".", "_") for name in names]
    if replaced[:last] == names[:last]:
        return [replaced]
    return [replaced, [*replaced[:last], *names[last:]]]


def last_position(segments: Sequence[str]) -> int:
    """Return the position of the last segment that is no extension alone, or the first one."""
    last = len(segments) - 1
    while last > 0 and segments[last].startswith("."):
        last -= 1
    return last


def end_names(segment: str) -> set[str]:
    """Return the names by which a router may look up a last segment that contains dots.

    A name is the segment with or without its extensions, with dots or with underscores for them.
    The number of names is bounded by `MAX_DOTS`.
    """
    names = without_extensions(segment)
    names |= {name.replace(".", "_") for name in (*names, without_extension(segment))}
    return names - {""}


def without_extension(segment: str) -> str:
    """Return *segment* without its last extension, if it has an extension."""
    return segment.rpartition(".")[0] or segment


def without_extensions(segment: str) -> set[str]:
    """Return *segment* and its prefixes before each dot, for the first `MAX_DOTS` dots."""
    parts = segment.split(".", MAX_DOTS)
    return {segment, *(".".join(parts[:end]) for end in range(1, len(parts)))}


def _nonempty(segments: Iterable[str]) -> list[str]:
    return [segment for segment in segments if segment not in {"", "."}]


def _has_hidden_separators(path: str, text: str) -> bool:
    return any(mark in text for mark in _CUTS) or any(
        text.count(mark) != path.count(mark) for mark in "/."
    )


def _as_text(path: str) -> str:
    try:
        return path.encode("latin-1").decode(errors="ignore")
    except UnicodeEncodeError:
        return path  # decoded text, as some frameworks put into the environ


def _normalize(text: str) -> str | None:
    """Return *text* after decoding until another round changes nothing, or None.

    The result of one step may need another step: a compatibility form becomes a percent sign, an
    escape becomes an upper-case letter. Therefore all steps are repeated until the text is stable.
    """
    for _ in range(PASSES):
        before = text
        if "%" in text:
            text = unquote(text, errors="ignore")
        text = _without_invisible(normalize("NFKC", text).translate(_LETTERS_OF_I).casefold())
        if text == before:
            return text
    return None


def _without_invisible(text: str) -> str:
    if text.isprintable() and " " not in text:
        return text
    return "".join(char for char in text if char.isprintable() and char != " ")
