"""The canonical form of a request path: one form for all spellings that some router takes for it.

Routers differ. One merges slashes, another resolves dot segments, a third ignores case or drops
`;params`; no one form is what each of them sees. This form undoes all of it at once. Where the
order of undoing matters (dot segments, a `?` or `#`, slashes and dots that only a decoding brings
to light) it says so by `loose`: any router may then see fewer segments than stand here, though
never others and never in another order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import normalize
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

PASSES = 8
"""How many rounds of decoding a path may need; an honest one needs two."""

MOST_DOTS = 16
"""How many dots of a segment may begin its extension; without an end a row of dots is costly."""

_LETTERS_OF_I = {0x130: "i", 0x131: "i"}
"""Two letters that `re.IGNORECASE` takes for an i and case folding does not."""

_plain = re.compile(r"[A-Za-z0-9/_.~-]*").fullmatch
_PARAMETERS = re.compile(r"[;?#].*", re.DOTALL)


class Reading(NamedTuple):
    """What a path comes to.

    Attributes:
        segments: the segments that are left, without empty ones and single dots.
        loose: whether a router may see only some of them, in the same order, or an extension that
            itself holds dots.

    """

    segments: list[str]
    loose: bool


def read(path: str) -> Reading | None:
    """Return the canonical form of *path* (PEP 3333 text), or None when decoding finds no end."""
    if _plain(path):
        segments = _meant(path.lower().split("/"))
        return Reading(segments, ".." in segments)
    text = _settle(_as_text(path))
    if text is None:
        return None
    segments = _meant(_PARAMETERS.sub("", raw) for raw in text.split("/"))
    return Reading(segments, ".." in segments or _hides(path, text))


def resolve(reading: Reading) -> list[str]:
    """Return the segments with each `..` and the one before it gone, never above the root."""
    kept: list[str] = []
    for segment in reading.segments:
        if segment != "..":
            kept.append(segment)
        elif kept:
            kept.pop()
    return kept


def stem(segment: str) -> str:
    """Return *segment* without its last extension; one without an extension is left as it is."""
    return segment.rpartition(".")[0] or segment


def stems(segment: str) -> set[str]:
    """Return *segment* and what stands before each of its dots, as far as `MOST_DOTS`."""
    parts = segment.split(".", MOST_DOTS)
    return {segment, *(".".join(parts[:end]) for end in range(1, len(parts)))}


def _meant(segments: Iterable[str]) -> list[str]:
    return [segment for segment in segments if segment not in {"", "."}]


def _hides(path: str, text: str) -> bool:
    return any(mark in text for mark in "?#") or any(
        text.count(mark) != path.count(mark) for mark in "/."
    )


def _as_text(path: str) -> str:
    try:
        return path.encode("latin-1").decode(errors="ignore")
    except UnicodeEncodeError:
        return path  # a framework below has put decoded text there


def _settle(text: str) -> str | None:
    """Return *text* when another round of decoding changes nothing.

    One step can undo the rest of another: a compatibility form turns into a percent sign, an
    escape into a letter that has a case. So all of them go round until the text stands.
    """
    for _ in range(PASSES):
        before = text
        if "%" in text:
            text = unquote(text, errors="ignore")
        text = _visible(normalize("NFKC", text).translate(_LETTERS_OF_I).casefold())
        if text == before:
            return text.replace("\\", "/")
    return None


def _visible(text: str) -> str:
    if text.isprintable() and " " not in text:
        return text
    return "".join(char for char in text if char.isprintable() and char != " ")
