"""The definition of a setting: name, converter, default and help; reads tables of settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pulse.errors import BadValueError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a table of settings, from which errors, help and the reference page are generated.

    Attributes:
        name: the key after its prefix, which is also the keyword argument.
        convert: the converter of a value; raises `BadValueError`.
        kind: a description of valid values for users.
        default: a description of the default for users.
        help: a sentence about the setting.
        example: a value in the syntax of an ini file.

    """

    name: str
    convert: Callable[[object], Any]
    kind: str
    default: str
    help: str
    example: str


Table = dict[str, Setting]


def table(*rows: Setting) -> Table:
    """Return a table of rows, keyed by name."""
    return {row.name: row for row in rows}


def read(
    known: Table, given: Mapping[str, object], *, prefix: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """Return the converted values, and one sentence for each invalid key or value."""
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
            problems.append(f"{prefix}{name}: {error}{_comment_hint(value)}")
    return values, problems


def _comment_hint(value: object) -> str:
    """Return a hint for a value that seems to end in a comment, which ini files do not support."""
    if isinstance(value, str) and (" ;" in value or " #" in value):
        return "; a comment must be on a line of its own"
    return ""


def unknown_key(prefix: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence for an unknown setting, with a similar known setting."""
    near = did_you_mean(str(name), known)
    if near:
        return f"{prefix}{name}: unknown setting{near}"
    return f"{prefix}{name}: unknown setting; expected one of {', '.join(sorted(known))}"
