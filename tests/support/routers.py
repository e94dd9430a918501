"""What routers do to a path before they look it up, each step small enough to be seen right.

Every step takes and gives decoded text. A router is some of them in some order, and then a
comparison with the path of the view.
"""

from __future__ import annotations

import re
import string
import unicodedata
from urllib.parse import unquote


def merge_slashes(path: str) -> str:
    """Werkzeug's rules, nginx."""
    return re.sub("/+", "/", path)


def add_leading_slash(path: str) -> str:
    """Werkzeug's request, WebOb's pop of a segment."""
    return path if path.startswith("/") else "/" + path


def drop_trailing_slash(path: str) -> str:
    """Flask without strict slashes, routes that end in `/?`."""
    return path.removesuffix("/")


def traverse(path: str) -> str:
    """Pyramid's traversal: empty and single-dot segments go, `..` takes one with it."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    return "/" + "/".join(kept)


def ignore_case(path: str) -> str:
    """A route that lowers what it gets."""
    return path.lower()


def ignore_case_by_regex(path: str) -> str:
    """A route with `re.IGNORECASE`, which knows four letters more."""
    return path.translate({0x130: "i", 0x131: "i", 0x17F: "s", 0x212A: "k"}).lower()


def strip_parameters(path: str) -> str:
    """Java-like path parameters, in each segment."""
    return re.sub(r";[^/]*", "", path)


def strip_last_parameters(path: str) -> str:
    """`urlparse`, which knows parameters of the last segment only."""
    head, slash, tail = path.rpartition("/")
    return head + slash + tail.partition(";")[0]


def strip_extension(path: str) -> str:
    """A format suffix: `.json`."""
    head, slash, tail = path.rpartition("/")
    return head + slash + (tail.rpartition(".")[0] or tail)


def cut_query(path: str) -> str:
    """A path that is parsed as a URL once more."""
    return re.split(r"[?#]", path, maxsplit=1)[0]


def decode_again(path: str) -> str:
    """A proxy that decodes, or an app that quotes twice."""
    return unquote(path, errors="ignore")


def turn_backslashes(path: str) -> str:
    """Code that has met Windows."""
    return path.replace("\\", "/")


def drop_controls(path: str) -> str:
    """`urlsplit` drops line ends and tabs wherever they stand; C code stops at a NUL."""
    return re.sub(r"[\t\r\n]", "", path).rstrip("\0")


def trim(path: str) -> str:
    """Blanks around each segment."""
    return "/".join(segment.strip() for segment in path.split("/"))


def compose_unicode(path: str) -> str:
    """Compatibility normalisation, as slugs and identifiers have it."""
    return unicodedata.normalize("NFKC", path)


def end_before_newline(path: str) -> str:
    """A regex whose `$` also matches before a newline at the end."""
    return path.removesuffix("\n")


STEPS = (
    merge_slashes,
    add_leading_slash,
    drop_trailing_slash,
    traverse,
    ignore_case,
    ignore_case_by_regex,
    strip_parameters,
    strip_last_parameters,
    cut_query,
    decode_again,
    turn_backslashes,
    drop_controls,
    trim,
    compose_unicode,
    end_before_newline,
)
"""All steps that may be taken several times; the extension goes at most once."""


def look_up_in_cherrypy(path: str) -> list[str]:
    """Return the names that CherryPy's dispatcher looks up: punctuation becomes underscores."""
    return [_identifier(segment) for segment in path.split("/") if segment]


def look_up_in_turbogears(path: str) -> list[str]:
    """Return the names that TurboGears looks up: as CherryPy, after the last extension is gone."""
    *inner, last = path.strip("/").split("/")
    if "." in last:
        last = last.rpartition(".")[0]
    return [_identifier(segment) for segment in [*inner, last] if segment]


def _identifier(segment: str) -> str:
    return segment.translate(dict.fromkeys(map(ord, string.punctuation), "_"))


def decoded(path: str) -> str:
    """Return PEP 3333 text decoded as Bottle does it: invalid UTF-8 goes."""
    return path.encode("latin-1").decode(errors="ignore")


def below(path: str, view: str) -> bool:
    """Return whether a view that takes the rest of the path is reached."""
    return path == view or path.startswith(view + "/")


def strip_formats(path: str) -> str:
    """Drop the format of a route `cleanup.<format>`; the format may contain dots."""
    head, slash, tail = path.rpartition("/")
    return head + slash + tail.partition(".")[0]


REDUCTIONS = (
    strip_extension,
    strip_formats,
    drop_trailing_slash,
    strip_parameters,
    strip_last_parameters,
    cut_query,
)


def reductions(path: str) -> set[str]:
    """Return all paths to which these steps can reduce a path, in any order."""
    found, fresh = {path}, [path]
    while fresh:
        made = {step(one) for one in fresh for step in REDUCTIONS} - found
        found |= made
        fresh = sorted(made)
    return found
