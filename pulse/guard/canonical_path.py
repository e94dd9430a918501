"""The canonical form of a request path: one form for all paths that a router may treat as equal.

Theory of operation
-------------------
Routers normalize paths differently. A router may merge slashes, resolve dot segments, ignore case,
or drop `;params`. The canonical form applies all normalizations at once. For some paths the result
depends on the order of the normalizations: paths with dot segments, with `?` or `#`, or with
slashes and dots that appear only after decoding. The form of such a path is marked as ambiguous. A
router may then see fewer segments than the canonical form contains, but never other segments, and
never in another order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import normalize
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    """

    segments: list[str]
    ambiguous: bool


def canonical_form(path: str) -> CanonicalPath | None:
    """Return the canonical form of *path* (PEP 3333 text), or None after too many decodings."""
    if _plain(path):
        segments = _nonempty(path.lower().split("/"))
        return CanonicalPath(segments, ".." in segments)
    text = _normalize(_as_text(path))
    if text is None:
        return None
    segments = _nonempty(_PARAMETERS.sub("", raw) for raw in text.split("/"))
    return CanonicalPath(segments, ".." in segments or _has_hidden_separators(path, text))


def resolve_dot_segments(canonical: CanonicalPath) -> list[str]:
    """Return the segments without each `..` and its preceding segment, never above the root."""
    resolved: list[str] = []
    for segment in canonical.segments:
        if segment != "..":
            resolved.append(segment)
        elif resolved:
            resolved.pop()
    return resolved


def names_of(segments: list[str]) -> list[list[str]]:
    """Return the lists of names by which a router may look up *segments*.

    CherryPy and TurboGears look up a segment with an underscore for each punctuation mark. The
    first list keeps the dots, which may begin an extension; the second one exists if there are any.
    """
    text = "/".join(segments)
    if _punctuation(text):
        if "@@" in text or "+" in text:
            text = _VIEW_SELECTORS.sub(r"\1", text)
        text = text.translate(_UNDERSCORES)
        segments = _nonempty(text.split("/"))
    if "." not in text:
        return [segments]
    return [segments, [segment.replace(".", "_") for segment in segments if segment != ".."]]


def without_extension(segment: str) -> str:
    """Return *segment* without its last extension, if it has an extension."""
    return segment.rpartition(".")[0] or segment


def without_all_extensions(segment: str) -> str:
    """Return *segment* after its extensions were removed one by one, never an empty text."""
    while (shorter := without_extension(segment)) != segment:
        segment = shorter
    return segment


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
            return text.replace("\\", "/")
    return None


def _without_invisible(text: str) -> str:
    if text.isprintable() and " " not in text:
        return text
    return "".join(char for char in text if char.isprintable() and char != " ")
