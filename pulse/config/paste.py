"""Finds the sections of an ini file that use a filter, without building an application.

PasteDeploy imports the factory of a section when it reads the section. The search therefore reads
filter sections first. It reads applications and pipelines, which may reference a filter in another
file, only if no filter section uses the factory.
"""

from __future__ import annotations

import configparser
from typing import TYPE_CHECKING, Any, NamedTuple

from paste.deploy import loadwsgi

from pulse.errors import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_FILTER_KINDS = {"filter": loadwsgi.FILTER, "filter-app": loadwsgi.APP}
_REFERRING_KINDS = dict.fromkeys(
    ("pipeline", "app", "application", "composite", "composit"), loadwsgi.APP
)
_UNREADABLE = (LookupError, ImportError, AttributeError, ValueError, OSError, configparser.Error)


class PasteSection(NamedTuple):
    """The arguments that PasteDeploy passes to the filter's factory, and the referring section."""

    name: str
    global_conf: Mapping[str, str]
    local_conf: Mapping[str, str]


class PasteSearch(NamedTuple):
    """The sections that use the filter, and one sentence for each unreadable section."""

    sections: list[PasteSection]
    problems: list[str]


def find_sections(
    file: Path, factory: object, *, only: str | None = None, global_conf: Mapping[str, str]
) -> PasteSearch:
    """Return the sections of *file* that use *factory*.

    Args:
        file: the ini file.
        factory: the filter's factory.
        only: the name of the only section to read, with its kind.
        global_conf: variables that the server adds to `[DEFAULT]`.

    """
    try:
        loader = loadwsgi.ConfigLoader(str(file))
    except OSError as error:
        return PasteSearch([], [f"{file}: {_open_error(error)}"])
    except _UNREADABLE as error:
        return PasteSearch([], [f"{file}: {_error_text(error)}"])
    loader.update_defaults(global_conf, overwrite=False)
    names: list[str] = loader.parser.sections()
    if only is not None and only not in names:
        return PasteSearch(
            [], [f"expected a section of {file}, got {shown(only)}{_hint(only, names)}"]
        )
    wanted = names if only is None else [only]
    search = _search(loader, factory, wanted, _FILTER_KINDS)
    if not any(search):
        search = _search(loader, factory, wanted, _REFERRING_KINDS)
    if not any(search):
        where = file if only is None else f"[{only}] of {file}"
        search.problems.append(f"{where}: expected a section that uses egg:pulse, found none")
    return search


def _search(
    loader: Any,  # noqa: ANN401 - PasteDeploy has no types
    factory: object,
    names: Iterable[str],
    kinds: Mapping[str, object],
) -> PasteSearch:
    search = PasteSearch([], [])
    for section in names:
        kind, _, name = section.partition(":")
        if kind not in kinds:
            continue
        try:
            context = loader.get_context(kinds[kind], name.strip() or None)
        except _UNREADABLE as error:
            search.problems.append(f"[{section}] cannot be read: {_error_text(error)}")
            continue
        for inner in _contexts(context):
            if inner.object is factory:
                search.sections.append(PasteSection(section, inner.global_conf, inner.local_conf))
    return search


def _contexts(context: Any) -> Iterator[Any]:  # noqa: ANN401 - PasteDeploy has no types
    """Yield a context and the contexts that PasteDeploy would create with it."""
    yield context
    for inner in ("filter_context", "next_context", "app_context"):
        if hasattr(context, inner):
            yield from _contexts(getattr(context, inner))
    for inner_filter in getattr(context, "filter_contexts", ()):
        yield from _contexts(inner_filter)


def _open_error(error: OSError) -> str:
    """Return a text about a file that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    return f"cannot be opened: {error.strerror or error}"


def _error_text(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"the file {error.filename} does not exist"
    return " ".join(f"{type(error).__name__}: {error}".split())


def _hint(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known) or f"; the file has {', '.join(known)}"
