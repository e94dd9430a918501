"""Options of the URLs of servers, checked when the configuration is read.

The drivers check options when a connection is made, in each worker, and are not imported before
that. So each store has a table of the options that its driver takes, and of their values.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pulse.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_PLAIN_NAME = re.compile(r"\w{1,40}", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_MAX_PORT = 65_535
_MAX_NUMBER = 2**31 - 1


class OptionKind(NamedTuple):
    """The valid values of an option: a description for users, and a test."""

    expected: str
    accepts: Callable[[str], bool]


def whole(low: int = 0, high: int = _MAX_NUMBER) -> OptionKind:
    """Return the kind of whole numbers from *low* to *high*."""
    bound = "" if high == _MAX_NUMBER else f" to {high}"
    return OptionKind(
        f"a whole number from {low}{bound}",
        lambda value: bool(_WHOLE.fullmatch(value)) and low <= int(value) <= high,
    )


def one_of(*values: str) -> OptionKind:
    """Return the kind of these values."""
    return OptionKind(f"one of {', '.join(values)}", lambda value: value in values)


TEXT = OptionKind("text", lambda _: True)
SECONDS = OptionKind(
    "seconds above zero",
    lambda value: bool(_NUMBER.fullmatch(value)) and float(value) > 0,
)
PORT = whole(1, _MAX_PORT)
PORTS = OptionKind(
    f"ports from 1 to {_MAX_PORT}",
    lambda value: all(not port or PORT.accepts(port) for port in value.split(",")),
)


def option_problems(
    options: Iterable[tuple[str, str]], known: Mapping[str, OptionKind]
) -> list[str]:
    """Return one text for each option that the driver would refuse; no value is shown.

    Args:
        options: names and values, decoded.
        known: the kinds of the options that the driver takes, by name.

    """
    problems = []
    for name, value in options:
        kind = known.get(name)
        if kind is None and _PLAIN_NAME.fullmatch(name):
            problems.append(f"an unknown option {name!r}{did_you_mean(name, known)}")
        elif kind is None:
            problems.append("an option whose name is no word")
        elif not kind.accepts(value):
            problems.append(f"an option {name!r} that is not {kind.expected}")
    return problems


def has_broken_escape(text: str) -> bool:
    """Return whether *text* has a percent sign that begins no character, or a null byte."""
    return bool(_BROKEN_ESCAPE.search(text))
