"""The sections of an ini file that use a filter, as PasteDeploy reads them; nothing is built.

To read a section is to import what it uses. So the sections that can hold settings of the filter
are read first; apps and pipelines, which may lead to a filter in another file, only when none of
those uses it.
"""

from __future__ import annotations

import configparser
from typing import TYPE_CHECKING, Any, NamedTuple

from paste.deploy import loadwsgi

from pulse.errors import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_NEAR = {"filter": loadwsgi.FILTER, "filter-app": loadwsgi.APP}
_FAR = dict.fromkeys(("pipeline", "app", "application", "composite", "composit"), loadwsgi.APP)
_UNREADABLE = (LookupError, ImportError, AttributeError, ValueError, OSError, configparser.Error)


class Section(NamedTuple):
    """What PasteDeploy would pass to a filter's factory, and the section that leads to it."""

    name: str
    global_conf: Mapping[str, str]
    local_conf: Mapping[str, str]


class Search(NamedTuple):
    """The sections that were found, and one sentence for each that could not be read."""

    sections: list[Section]
    problems: list[str]


def find_sections(
    file: Path, factory: object, *, only: str | None = None, global_conf: Mapping[str, str]
) -> Search:
    """Return the sections of *file* that use *factory*.

    Args:
        file: the ini file.
        factory: the filter's factory.
        only: the name of a section, kind included; the others are not read.
        global_conf: what the server adds to `[DEFAULT]`.

    """
    try:
        loader = loadwsgi.ConfigLoader(str(file))
    except OSError as error:
        return Search([], [f"{file}: {_why_not(error)}"])
    except _UNREADABLE as error:
        return Search([], [f"{file}: {_told(error)}"])
    loader.update_defaults(global_conf, overwrite=False)
    names: list[str] = loader.parser.sections()
    if only is not None and only not in names:
        return Search([], [f"expected a section of {file}, got {shown(only)}{_hint(only, names)}"])
    wanted = names if only is None else [only]
    search = _search(loader, factory, wanted, _NEAR)
    if not any(search):
        search = _search(loader, factory, wanted, _FAR)
    if not any(search):
        where = file if only is None else f"[{only}] of {file}"
        search.problems.append(f"{where}: expected a section that uses egg:pulse, found none")
    return search


def _search(
    loader: Any,  # noqa: ANN401 - PasteDeploy has no types
    factory: object,
    names: Iterable[str],
    kinds: Mapping[str, object],
) -> Search:
    search = Search([], [])
    for section in names:
        kind, _, name = section.partition(":")
        if kind not in kinds:
            continue
        try:
            context = loader.get_context(kinds[kind], name.strip() or None)
        except _UNREADABLE as error:
            search.problems.append(f"[{section}] cannot be read: {_told(error)}")
            continue
        for found in _walk(context):
            if found.object is factory:
                passed = Section(section, found.global_conf, found.local_conf)
                search.sections.append(passed)
    return search


def _walk(context: Any) -> Iterator[Any]:  # noqa: ANN401 - PasteDeploy has no types
    """Give a context and those that it would create with it."""
    yield context
    for inner in ("filter_context", "next_context", "app_context"):
        if hasattr(context, inner):
            yield from _walk(getattr(context, inner))
    for each in getattr(context, "filter_contexts", ()):
        yield from _walk(each)


def _why_not(error: OSError) -> str:
    """Return in words why a file cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return f"it cannot be opened: {error.strerror or error}"


def _told(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"there is no file {error.filename}"
    return " ".join(f"{type(error).__name__}: {error}".split())


def _hint(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known) or f"; there are {', '.join(known)}"
