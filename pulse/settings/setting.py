"""The definition of a setting: name, converter, default and help; reads tables of settings.

A table is written as rows (`table`), or derived from the fields of a struct, each of which is
annotated with its setting (`table_of`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_type_hints

import msgspec

from pulse.errors import BadValueError, Unshown, did_you_mean, shown_url
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
        is_secret: whether errors must not show values.
        is_raw: whether a value may begin and end with quotes, which are part of it.

    """

    convert: Callable[[object], Any]
    kind: str
    help: str
    example: str
    name: str = ""
    default: str = ""
    fallback: Any = None
    is_span: bool = False
    is_raw: bool = False
    is_secret: bool = False

    def text(self, value: Any) -> str:  # noqa: ANN401 - a value of any setting
        """Return an exact value in the syntax of an ini file; `convert` is the inverse."""
        return duration_text(value) if self.is_span else value_text(value)


Table = dict[str, Setting]

_QUOTES: Final = "; remove the quotes"


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
            values[name] = row.convert(value if row.is_raw else _unquoted(value, row))
        except BadValueError as error:
            problems.append(f"{prefix}{name}: {error}{_comment_hint(value)}")
    return values, problems


def _unquoted(value: object, row: Setting) -> object:
    """Return *value* unless it is text in quotes, which are no part of any valid value.

    Raises:
        BadValueError: it is text in quotes.

    """
    if not isinstance(value, str) or ('"' not in value and "'" not in value):
        return value
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        got = Unshown(text) if row.is_secret else shown_url(text)
        raise BadValueError("a value without quotes", got, hint=_QUOTES)
    return value


def _comment_hint(value: object) -> str:
    """Return a hint for a value that seems to end in a comment, which ini files do not support."""
    if isinstance(value, str) and (" ;" in value or " #" in value):
        return "; a comment must be on a line of its own"
    return ""


FOREIGN: Mapping[str, str] = {
    **dict.fromkeys(("seconds", "minutes", "hours", "days", "weeks", "period"), "interval"),
    **dict.fromkeys(("second", "minute", "hour", "day", "day_of_week", "month", "year"), "cron"),
    **dict.fromkeys(("crontab", "schedule", "trigger", "expression"), "cron"),
    **dict.fromkeys(("run_date", "date", "eta", "clocked", "once"), "at"),
    **dict.fromkeys(("start_date", "start_time", "start_at", "next_run_time"), "start"),
    **dict.fromkeys(("end_date", "end_time", "end_at", "expires"), "end"),
    **dict.fromkeys(("max_instances", "max_running_jobs", "concurrency_limit"), "max_running"),
    **dict.fromkeys(("coalesce", "catchup", "catch_up", "missed"), "misfire"),
    **dict.fromkeys(("misfire_grace_time", "starting_deadline", "deadline"), "grace"),
    **dict.fromkeys(("tz", "zone", "time_zone"), "timezone"),
    **dict.fromkeys(("max_retries", "retry", "max_attempts", "attempts"), "retries"),
    **dict.fromkeys(("url", "uri", "path", "view", "func", "task", "target"), "action"),
    **dict.fromkeys(("data", "payload", "json"), "body"),
    **dict.fromkeys(("time_limit", "soft_time_limit"), "timeout"),
    **dict.fromkeys(("max_jitter", "splay"), "jitter"),
}
"""Words of other schedulers, and the setting of a task that is meant."""


def unknown_key(prefix: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence for an unknown setting, with a similar known setting."""
    foreign = FOREIGN.get(str(name), "")
    if foreign in known:
        near = f"; did you mean {foreign!r}?"
    elif foreign:
        near = f"; did you mean {foreign!r}, a setting of a task?"
    else:
        near = did_you_mean(str(name), known)
    if near:
        return f"{prefix}{name}: unknown setting{near}"
    return f"{prefix}{name}: unknown setting; expected one of {', '.join(sorted(known))}"
