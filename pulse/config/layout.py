"""The references between the sections of an ini file, as PasteDeploy resolves them.

Only the text is read; nothing is imported or built. A composite names its applications in settings
of any name, so every word of a composite that is the name of a section counts as a reference.
"""

from __future__ import annotations

import configparser
import re
from typing import TYPE_CHECKING, Final

from paste.deploy import loadwsgi

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_APPS: Final = frozenset({"app", "application", "composite", "composit", "pipeline", "filter-app"})
_COMPOSITES: Final = frozenset({"composite", "composit"})
_REFERENCES: Final = frozenset({"use", "next", "pipeline", "filter-with"})


class Layout:
    """The sections of one file by their full names, such as `pipeline:main`.

    Args:
        file: the ini file.
        global_conf: the variables that the server adds to `[DEFAULT]`.

    Raises:
        OSError: the file cannot be read.
        configparser.Error: the file is not an ini file.

    """

    def __init__(self, file: str, global_conf: Mapping[str, str]) -> None:
        loader = loadwsgi.ConfigLoader(file)
        loader.update_defaults(global_conf, overwrite=False)
        self._parser: configparser.ConfigParser = loader.parser

    def applications(self) -> list[str]:
        """Return the names of the sections from which an application can be loaded."""
        found = map(_parted, self._parser.sections())
        return list(dict.fromkeys(name for kind, name in found if kind in _APPS))

    def referring_to(self, sections: Iterable[str]) -> list[str]:
        """Return the names of the sections that apply one of these filters to an application."""
        wanted = set(sections)
        filters = {each for each in wanted if _parted(each)[0] not in _APPS}
        found = [
            _parted(each)[1]
            for each in self._parser.sections()
            if each in wanted - filters
            or (_parted(each)[0] in _APPS and not filters.isdisjoint(self._references(each)))
        ]
        return list(dict.fromkeys(found))

    def leads_to(self, names: Iterable[str], name: str) -> bool:
        """Return whether one of the applications *names* is *name*, or refers to it."""
        waiting = [section for each in names for section in self._named(each)]
        seen = set(waiting)
        while waiting:
            section = waiting.pop()
            if _parted(section)[1] == name and _parted(section)[0] in _APPS:
                return True
            new = self._references(section) - seen
            seen |= new
            waiting.extend(new)
        return False

    def _references(self, section: str) -> set[str]:
        kind = _parted(section)[0]
        words: list[str] = []
        for option in self._parser.options(section):
            if option in _REFERENCES or kind in _COMPOSITES:
                words += re.split(r"[\s,]+", self._value(section, option))
        return {found for word in words for found in self._named(word)}

    def _value(self, section: str, option: str) -> str:
        try:
            return str(self._parser.get(section, option, fallback=""))
        except configparser.Error:  # refers to a variable without a value
            return ""

    def _named(self, name: str) -> Iterator[str]:
        return (each for each in self._parser.sections() if _parted(each)[1] == name)


def _parted(section: str) -> tuple[str, str]:
    """Return kind and name of a section; a section without a name is `main`."""
    kind, _, name = section.partition(":")
    return kind.strip(), name.strip() or "main"
