"""The sections of an ini file that use pulse, loaded into settings without building the app."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.config.loader import load_paste
from pulse.config.paste import find_sections
from pulse.errors import ConfigError
from pulse.middleware import pulse_filter_app_factory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pulse.config.settings import Settings


class Loaded(NamedTuple):
    """The settings of each section by its name, and one sentence for each problem."""

    sections: list[tuple[str, Settings]]
    problems: list[str]


def load_file(
    file: Path, *, section: str | None = None, global_conf: Mapping[str, str] | None = None
) -> Loaded:
    """Return what the sections of *file* that use pulse declare, and all that is wrong."""
    search = find_sections(
        file, pulse_filter_app_factory, only=section, global_conf=global_conf or {}
    )
    loaded = Loaded([], search.problems)
    for found in search.sections:
        try:
            settings = load_paste(found.global_conf, found.local_conf)
        except ConfigError as error:
            loaded.problems.extend(f"[{found.name}] {problem}" for problem in error.problems)
        else:
            loaded.sections.append((found.name, settings))
    return loaded
