"""What a converter makes of one entry, and how it is printed: as ini lines, or as Python."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pulse.config.loader import load
from pulse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Converted(NamedTuple):
    """An entry of another scheduler.

    Attributes:
        name: the name of the task; empty if the entry is no task.
        source: the entry, in the words of its scheduler.
        settings: the settings of the task; empty if the entry cannot be converted.
        notes: what has no counterpart, and what to check, one sentence each.

    """

    name: str
    source: str
    settings: Mapping[str, str]
    notes: Sequence[str] = ()

    @property
    def is_refused(self) -> bool:
        """Whether the entry is a task that pulse cannot run so."""
        return not self.settings


def checked(found: Iterable[Converted]) -> list[Converted]:
    """Return the entries with a name of its own for each, and without those that pulse refuses."""
    names: dict[str, int] = {}
    result = []
    for one in found:
        number = names[one.name] = names.get(one.name, 0) + 1
        renamed = one if number == 1 else one._replace(name=f"{one.name}_{number}")
        result.append(_validated(renamed) if renamed.settings else renamed)
    return result


def _validated(one: Converted) -> Converted:
    keys = {f"pulse.task.{one.name}.{name}": value for name, value in one.settings.items()}
    try:
        load(keys, {})
    except ConfigError as error:
        return one._replace(settings={}, notes=(*one.notes, *error.problems))
    return one


def task_name(text: str) -> str:
    """Return a name for a task made of letters, digits and underscores."""
    return re.sub(r"\W+", "_", text).strip("_").lower() or "task"


def as_ini(found: Iterable[Converted]) -> list[str]:
    """Return the lines for the section of pulse in an ini file."""
    lines: list[str] = []
    for one in found:
        lines += [f"# {text}" for text in _comments(one)]
        lines += [f"pulse.task.{one.name}.{key} = {text}" for key, text in one.settings.items()]
        lines.append("")
    return lines


def as_python(found: Iterable[Converted]) -> list[str]:
    """Return the argument `tasks` of a `PulseMiddleware`."""
    lines = ["tasks={"]
    for one in found:
        lines += [f"    # {text}" for text in _comments(one)]
        if one.settings:
            words = ", ".join(f"{key}={text!r}" for key, text in one.settings.items())
            lines.append(f"    {one.name!r}: Task({words}),")
    return [*lines, "}"]


def _comments(one: Converted) -> list[str]:
    texts = [one.source, *(f"note: {note}" for note in one.notes)]
    if one.name and one.is_refused:
        texts.append("not converted")
    return [" ".join(text.split()) for text in texts]
