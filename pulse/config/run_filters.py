"""The filters of `runs()`, checked: an error names the argument and what it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pulse.clock import Instant, instant_of
from pulse.core.run import Trigger
from pulse.core.run_query import STATES, RunQuery
from pulse.errors import BadValueError, ConfigError, did_you_mean
from pulse.settings.converters import count

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_MAX_LIMIT = 10_000_000
_limit = count(1, _MAX_LIMIT)
_number = count(0, 2**63 - 1)


def run_query(
    *,
    task: str | None = None,
    outcomes: object = None,
    trigger: object = None,
    holder: object = None,
    since: object = None,
    until: object = None,
    before: object = None,
    limit: object,
) -> RunQuery:
    """Return the query of these filters; None leaves a filter out.

    Raises:
        ConfigError: with one problem for each wrong argument.

    """
    problems: list[str] = []

    def read(name: str, value: object, convert: Callable[[object], T]) -> T | None:
        if value is None:
            return None
        try:
            return convert(value)
        except BadValueError as error:
            problems.append(f"{name}: {error}")
            return None

    words = {
        "states": read("outcomes", outcomes, _states),
        "trigger": read("trigger", trigger, _trigger),
        "holder": read("holder", holder, _text),
        "since": read("since", since, _instant),
        "until": read("until", until, _instant),
        "before": read("before", before, _number),
    }
    if limit is None:
        problems.append("limit: expected a whole number, got None")
    number = read("limit", limit, _limit)
    if problems:
        raise ConfigError(problems)
    return RunQuery(task=task, limit=number or 1, **words)  # type: ignore[arg-type] # by name


def _states(value: object) -> frozenset[str]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise BadValueError("a collection of outcomes, such as ['failed']", value)
    words = list(value)
    for word in words:
        if not isinstance(word, str) or word not in STATES:
            near = did_you_mean(word, STATES) if isinstance(word, str) else ""
            raise BadValueError(f"outcomes among {', '.join(sorted(STATES))}", word, hint=near)
    return frozenset(map(str, words))


def _trigger(value: object) -> Trigger:
    for trigger in Trigger:
        if value == trigger:
            return trigger
    raise BadValueError(f"one of {', '.join(Trigger)}", value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not is_encodable(value):
        raise BadValueError("text", value)
    return value


def is_encodable(text: str) -> bool:
    """Return whether UTF-8 can encode a text, so that a store can keep it and look it up."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _instant(value: object) -> Instant:
    return instant_of(value)  # type: ignore[arg-type] # it checks the type
