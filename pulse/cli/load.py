"""Loads the settings of the sections of an ini file that use pulse, or of an application."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pulse.child.discovery import discovery
from pulse.config.loader import load_paste
from pulse.config.paste import Factories, find_sections
from pulse.engine.child_application import load_named
from pulse.errors import ConfigError
from pulse.middleware import pulse_app_factory, pulse_filter_app_factory
from pulse.runtime import PulseRuntime
from pulse.serving.identity import identity_of
from pulse.serving.references import reachable
from pulse.settings.converters import is_application
from pulse.worker.loading import imported, switched_off

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from wsgiref.types import WSGIApplication

    from pulse.config.paste import PasteSearch
    from pulse.config.settings import Settings
    from pulse.serving.base import Identity

_FACTORIES = Factories(pulse_filter_app_factory, pulse_app_factory)


class LoadedSection(NamedTuple):
    """The settings of a section that uses pulse.

    Attributes:
        name: the section of the file, with its kind, such as `filter:pulse`.
        source: such as `[filter:pulse] of /srv/base.ini`, if the settings are in another file.
        times: how many middlewares an application of the file builds from it.
        app: the application that the middleware wraps, if it was built.

    """

    name: str
    source: str
    settings: Settings
    times: int = 1
    app: WSGIApplication | None = None


class Loaded(NamedTuple):
    """The settings of each section, and one sentence for each problem."""

    sections: list[LoadedSection]
    problems: list[str]


def load_target(
    word: str, *, section: str | None = None, global_conf: Mapping[str, str] | None = None
) -> Loaded:
    """Return the settings that an ini file or an application has, and all problems."""
    if is_application(word):
        return Loaded(load_application(word), [])
    return load_file(Path(word), section=section, global_conf=global_conf)


def load_file(
    file: Path, *, section: str | None = None, global_conf: Mapping[str, str] | None = None
) -> Loaded:
    """Return the settings of the sections of *file* that use pulse, and all problems.

    The modules of the file's factories are imported; a middleware that they build does not start.
    """
    with switched_off():
        search = find_sections(file, _FACTORIES, only=section, global_conf=global_conf or {})
    loaded: dict[int, LoadedSection] = {}
    problems = list(search.problems)
    for position, found in enumerate(search.sections):
        label = f"[{found.name}]" + (f" {found.source}:" if found.source else "")
        try:
            settings = load_paste(found.global_conf, found.local_conf)
        except ConfigError as error:
            problems += [f"{label} {problem}" for problem in error.problems]
            continue
        times = max((built[position] for built in search.applications.values()), default=1)
        loaded[position] = LoadedSection(found.name, found.source, settings, max(times, 1))
    problems += _conflicts(search, loaded)
    return Loaded(list(loaded.values()), problems)


def load_application(word: str) -> list[LoadedSection]:
    """Return the settings of each middleware of the application that *word* names.

    Raises:
        ConfigError: the application cannot be loaded, or has no middleware.

    """
    with switched_off(), discovery() as found:
        app = imported(word, load_named, what="an application")
        built = [each for each in found.in_use() if isinstance(each, PulseRuntime)]
    served = reachable(app, built) or built
    if not served:
        raise ConfigError([f"{word}: expected an application with a PulseMiddleware, got none"])
    return [LoadedSection(word, "", each.settings, app=each.app) for each in served]


def _conflicts(search: PasteSearch, loaded: Mapping[int, LoadedSection]) -> Iterator[str]:
    """Yield a problem for each application of the file that would contain two middlewares alike.

    Two middlewares with the same name and store would act as one.
    """
    for application, built in search.applications.items():
        alike: dict[Identity, Counter[str]] = {}
        for position, number in built.items():
            if position in loaded:
                found = loaded[position]
                names = alike.setdefault(identity_of(found.settings), Counter())
                names[found.name] += number
        for identity, names in alike.items():
            if names.total() > 1 and identity.conflict:
                sections = ", ".join(f"[{name}]" for name in names)
                times = f"{names.total()} times"
                yield f"[{application}] builds {sections} {times}: {identity.conflict}"
