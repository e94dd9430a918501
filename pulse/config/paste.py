"""Finds the sections of an ini file with which PasteDeploy builds a filter.

`find_sections` follows the applications of a file, as a server would build them. `find_filters`
reads the filter sections alone, which imports and follows no application.
"""

from __future__ import annotations

import configparser
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pulse.config.paste_tree import (
    APP,
    APP_KINDS,
    FILTER,
    PasteTree,
    Place,
    UnreadableError,
    UnusableSectionError,
)
from pulse.errors import did_you_mean, shown, shown_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pulse.config.paste_tree import FactoryCall

_PROTOCOL: Final = "paste.filter_app_factory"
_KINDS: Final[Mapping[str, object]] = {**dict.fromkeys(APP_KINDS, APP), "filter": FILTER}
_INVALID_FILE: Final = (OSError, ValueError, configparser.Error)
_MISUSED: Final = (
    "cannot be loaded: pulse is a filter; expected use = egg:pulse in a section [filter:pulse] that"
    " a pipeline or filter-with names, got it as {protocol}"
)
_UNUSED: Final = (
    "expected an application of {file} that names it in a pipeline or by filter-with, got none: a"
    " server runs none of its tasks"
)


class Factories(NamedTuple):
    """The filter's factory, and a factory that stands for its use as an application."""

    filter: object
    misuse: object = None


class PasteSection(NamedTuple):
    """The arguments that PasteDeploy passes to the filter's factory, and where they are written.

    Attributes:
        name: the section of the file that was read, with its kind.
        source: such as `[filter:pulse] of /srv/base.ini`, if the filter is in another file.

    """

    name: str
    source: str
    global_conf: Mapping[str, str]
    local_conf: Mapping[str, str]


class PasteSearch(NamedTuple):
    """The sections that use the filter, and one sentence for each problem.

    Attributes:
        applications: by the application that no other one contains, how many filters of each
            section it builds; a section is its position in `sections`.

    """

    sections: list[PasteSection]
    applications: dict[str, Counter[int]]
    problems: list[str]


def find_sections(
    file: Path, factories: Factories, *, only: str | None = None, global_conf: Mapping[str, str]
) -> PasteSearch:
    """Return the sections of *file*, and of files that it names, that use a filter.

    Args:
        file: the ini file.
        factories: the factories of the filter.
        only: the name of the only section to read, with its kind.
        global_conf: variables that the server adds to `[DEFAULT]`.

    """
    try:
        tree = PasteTree(file, global_conf, uncalled=factories)
    except OSError as error:
        return PasteSearch([], {}, [f"{file}: {_open_error(error)}"])
    except _INVALID_FILE as error:
        return PasteSearch([], {}, [f"{file}: {error_text(error)}"])
    search = _Search(tree, factories)
    if only is None:
        search.read_file()
    elif only in tree.sections:
        search.read_alone(only)
    else:
        hint = did_you_mean(only, tree.sections) or f"; the file has {', '.join(tree.sections)}"
        search.problems[f"expected a section of {file}, got {shown(only)}{hint}"] = None
    if not (search.sections or search.problems):
        where = file if only is None else f"[{only}] of {file}"
        search.problems[f"{where}: expected a section that uses egg:pulse, found none"] = None
    return PasteSearch(search.sections, search.applications, list(search.problems))


def find_filters(
    file: Path, factory: object, *, global_conf: Mapping[str, str]
) -> list[PasteSection]:
    """Return the filter sections of *file* that use *factory*, or else what leads to them.

    Applications and pipelines, which may name a filter of another file, are read only if no filter
    section uses the factory.

    Raises:
        OSError: the file cannot be opened.
        configparser.Error: the file is not an ini file.

    """
    tree = PasteTree(file, global_conf, composites=False)
    kinds = {"filter": FILTER, "filter-app": APP}
    rest = {kind: APP for kind in APP_KINDS if kind not in kinds}
    found = _filters_of(tree, factory, kinds)
    return found or _filters_of(tree, factory, rest)


def _filters_of(
    tree: PasteTree, factory: object, kinds: Mapping[str, object]
) -> list[PasteSection]:
    found = []
    for section in tree.sections:
        kind, name = _parted(section)
        if kind not in kinds:
            continue
        try:
            calls = tree.calls(kinds[kind], name)
        except UnreadableError:
            continue
        found += [
            PasteSection(section, "", call.global_conf, call.local_conf)
            for call in calls
            if call.factory is factory
        ]
    return found


class _Search:
    """Collects sections and problems of one file; problems are kept once, in their order."""

    def __init__(self, tree: PasteTree, factories: Factories) -> None:
        self.sections: list[PasteSection] = []
        self.applications: dict[str, Counter[int]] = {}
        self.problems: dict[str, None] = {}
        self._tree = tree
        self._factories = factories
        self._positions: dict[tuple[Any, ...], int] = {}
        self._places: set[Place] = set()

    def read_alone(self, section: str) -> None:
        """Read one section, with what it refers to."""
        self._take(self._calls(section) or [])

    def read_file(self) -> None:
        """Read the applications of the file, and the filters that are not part of them."""
        apps = [each for each in self._tree.sections if _parted(each)[0] in APP_KINDS]
        calls, parts = {}, set()
        for app in apps:
            self._tree.visited.clear()
            calls[app] = self._calls(app)
            parts |= self._tree.visited - {Place(self._tree.file, app)}
        roots = [app for app in apps if Place(self._tree.file, app) not in parts]
        for root in roots:
            self.applications[root] = Counter(self._take(calls[root] or []))
        complete = all(each is not None for each in calls.values())
        is_served = any(_parted(app)[1] == "main" for app in apps)
        for section in self._filters():
            if not complete or Place(self._tree.file, section) not in parts:
                self._read_filter(section, unused=is_served and complete)

    def _filters(self) -> Iterator[str]:
        """Yield the filter sections whose calls were not taken."""
        for section in self._tree.sections:
            if section.startswith("filter:") and not self._is_taken(section):
                yield section

    def _is_taken(self, section: str) -> bool:
        return Place(self._tree.file, section) in self._places

    def _read_filter(self, section: str, *, unused: bool) -> None:
        calls = self._calls(section) or []
        if unused and any(call.factory is self._factories.filter for call in calls):
            self._add_problem(section, _UNUSED.format(file=self._tree.file))
        else:
            self._take(calls)

    def _calls(self, section: str) -> list[FactoryCall] | None:
        """Return the calls that build *section*; None if it cannot be read, which is a problem."""
        kind, name = _parted(section)
        if kind not in _KINDS:
            return []
        try:
            calls = self._tree.calls(_KINDS[kind], name)
        except UnreadableError as error:
            own, source = self._name_of(error.way)
            if getattr(error.cause, "section", "") == "DEFAULT":
                own = "DEFAULT"
            got = f"{source}: " if source else ""
            self._add_problem(own or section, f"cannot be read: {got}{error_text(error.cause)}")
            return None
        for way, problem in self._tree.faults:
            own, source = self._name_of(way)
            self._add_problem(own or section, f"cannot serve: {source}{source and ': '}{problem}")
        return calls

    def _take(self, calls: Iterable[FactoryCall]) -> list[int]:
        """Add the sections of the filter's calls; return their positions."""
        return [
            self._add(call)
            for call in calls
            if any(call.factory is each for each in self._factories) and not self._is_misuse(call)
        ]

    def _is_misuse(self, call: FactoryCall) -> bool:
        if call.factory is self._factories.filter and call.protocol == _PROTOCOL:
            return False
        self._add_problem(self._name_of(call.way)[0], _MISUSED.format(protocol=call.protocol))
        return True

    def _add(self, call: FactoryCall) -> int:
        name, source = self._name_of(call.way)
        confs = (tuple(sorted(conf.items())) for conf in (call.global_conf, call.local_conf))
        key = (call.way[-1:], *confs)
        if key not in self._positions:
            self._positions[key] = len(self.sections)
            self.sections.append(PasteSection(name, source, call.global_conf, call.local_conf))
            self._places.update(call.way[-1:])
        return self._positions[key]

    def _name_of(self, way: tuple[Place, ...]) -> tuple[str, str]:
        """Return the last section of the file on the way, and what follows it in another file."""
        own = [place.section for place in way if place.file == self._tree.file]
        last = way[-1] if way else None
        is_elsewhere = last is not None and last.file != self._tree.file
        source = f"[{last.section}] of {last.file}" if last is not None and is_elsewhere else ""
        return own[-1] if own else "", source

    def _add_problem(self, section: str, problem: str) -> None:
        self.problems[f"[{section}] {problem}"] = None


def error_text(error: Exception) -> str:
    """Return the text of an error of PasteDeploy; values of settings are not shown."""
    match error:
        case FileNotFoundError() if error.filename:
            return f"the file {error.filename} does not exist"
        case UnusableSectionError():
            return str(error)
        case configparser.InterpolationMissingOptionError():
            return (
                f"{error.option}: InterpolationMissingOptionError: expected a value for the"
                f" variable {error.reference!r}, got none; define it in [DEFAULT], or pass it to"
                f" the server (here: --global {error.reference}=VALUE); a percent sign is %%"
            )
        case configparser.InterpolationDepthError():
            return f"{error.option}: expected variables that end, got some that name each other"
        case configparser.InterpolationError():
            return f"{error.option}: expected %% for each percent sign, got a single % in the value"
        case configparser.MissingSectionHeaderError():
            kind = type(error).__name__
            return f"{kind}: File contains no section headers before line {error.lineno}"
        case configparser.ParsingError():
            lines = ", ".join(str(number) for number, _ in error.errors)
            return f"ParsingError: expected [section] or 'key = value' in line {lines}"
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return shown_url(text) if "://" in text else text


def _open_error(error: OSError) -> str:
    """Return a text about a file that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    return f"cannot be opened: {error.strerror or error}"


def _parted(section: str) -> tuple[str, str | None]:
    """Return kind and name of a section; None for a section without a name."""
    kind, _, name = section.partition(":")
    return kind.strip(), name.strip() or None
