"""What a setting is: its name, how its value is read, its default, the words that explain it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pulse.errors import BadValueError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a table of settings; errors, help and the reference page are made from it.

    Attributes:
        name: the key after its prefix, which is also the keyword argument.
        convert: reads a value; raises `BadValueError`.
        kind: what a value looks like, for people.
        default: what a person is told applies when the setting is absent.
        help: one sentence.
        example: a value as an ini file would hold it.

    """

    name: str
    convert: Callable[[object], Any]
    kind: str
    default: str
    help: str
    example: str


Table = dict[str, Setting]


def table(*rows: Setting) -> Table:
    """Return the rows by name."""
    return {row.name: row for row in rows}


def read(
    known: Table, given: Mapping[str, object], *, prefix: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """Return the converted values and one sentence for each key or value that is wrong."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in given.items():
        row = known.get(name)
        if row is None:
            problems.append(unknown_key(prefix, name, known))
            continue
        try:
            values[name] = row.convert(value)
        except BadValueError as error:
            problems.append(f"{prefix}{name}: {error}{_comment(value)}")
    return values, problems


def _comment(value: object) -> str:
    """Return a hint for a value that seems to end in a comment, which ini files do not have."""
    if isinstance(value, str) and (" ;" in value or " #" in value):
        return "; a comment must stand on a line of its own"
    return ""


def unknown_key(prefix: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence for a key that is no setting, with the nearest one that is."""
    near = did_you_mean(str(name), known)
    if near:
        return f"{prefix}{name}: unknown setting{near}"
    return f"{prefix}{name}: unknown setting; expected one of {', '.join(sorted(known))}"
