"""The definition of a setting: name, converter, default and help; reads tables of settings.

A table is written as rows (`table`), or derived from the fields of a struct, each of which is
annotated with its setting (`table_of`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from pulse.errors import BadValueError, did_you_mean
from pulse.settings.converters import duration_text, value_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a table of settings, from which errors, help and the reference page are generated.

    Attributes:
        convert: the converter of a value; raises `BadValueError`.
        kind: a description of valid values for users.
        help: a sentence about the setting.
        example: a value in the syntax of an ini file.
        name: the key after its prefix, which is also the keyword argument; `table_of` fills it in.
        default: a description of the default for users; `table_of` makes one of the default value.
        fallback: the exact value if the setting is not given; None if there is none. `table_of`
            makes one of the default value.
        is_span: whether exact values are spans in microseconds.

    """

    convert: Callable[[object], Any]
    kind: str
    help: str
    example: str
    name: str = ""
    default: str = ""
    fallback: Any = None
    is_span: bool = False

    def text(self, value: Any) -> str:  # noqa: ANN401 - a value of any setting
        """Return an exact value in the syntax of an ini file; `convert` is the inverse."""
        return duration_text(value) if self.is_span else value_text(value)


Table = dict[str, Setting]


def table(*rows: Setting) -> Table:
    """Return a table of rows, keyed by name."""
    return {row.name: row for row in rows}


def table_of(declared: type[msgspec.Struct]) -> Table:
    """Return a table of the settings with which the fields of a struct are annotated.

    Raises:
        TypeError: a field is not annotated with exactly one setting.

    """
    hints = get_type_hints(declared, include_extras=True)
    defaults = declared.__struct_defaults__
    first = len(declared.__struct_fields__) - len(defaults)
    values = dict(zip(declared.__struct_fields__[first:], defaults, strict=True))
    return table(
        *(_row(name, hints[name], values.get(name)) for name in declared.__struct_fields__)
    )


def _row(name: str, hint: object, value: object) -> Setting:
    """Return the complete setting of a field with a default value."""
    match [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Setting)]:
        case [setting]:
            fallback = setting.fallback if value is None else setting.convert(value)
            default = setting.default or setting.text(fallback)
            return msgspec.structs.replace(setting, name=name, default=default, fallback=fallback)
    raise TypeError(f"expected exactly one Setting in the annotation of {name}, got {hint!r}")


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
