"""Finds parts of a cron expression that are valid but probably not meant.

A step restarts with each minute, hour, day, month or week. So a step that does not divide its field
has one shorter distance, and a step beyond its range selects one value. With two restricted day
fields, one of which never matches, the other one alone decides.
"""

from __future__ import annotations

from calendar import monthrange
from typing import TYPE_CHECKING

from pulse.schedule.cron_fields import DAY, MONTH, WEEKDAY, Term
from pulse.schedule.cron_parser import fields_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.schedule.cron_fields import CronField, FieldKind

_LEAP_YEAR = 2024
_MAX_LISTED = 6


def cron_warnings(expression: str) -> list[str]:
    """Return one sentence for each part of a normalized expression that is probably not meant."""
    fields = fields_of(expression)
    found = [text for field in fields for text in _step_warnings(field)]
    _, _, _, day, month, weekday = fields
    if not (day.star or weekday.star) and not day.specials and _never_matches(day, month):
        found.append(
            "no month has such a day of month: the expression fires on its days of the week alone"
        )
    return found


def _step_warnings(field: CronField) -> Iterator[str]:
    kind = field.kind
    for term in field.terms:
        if not isinstance(term, Term) or term.step == 1:
            continue
        values = list(dict.fromkeys(v % 7 if kind is WEEKDAY else v for v in term.values))
        if len(values) == 1:
            yield f"the step {term.step} selects {kind.name} {term.low} alone"
        elif term.high == kind.high and _size(kind) % term.step:
            listed = _listed(values)
            yield f"the step {term.step} selects {kind.name} {listed}, not a constant distance"


def _size(kind: FieldKind) -> int:
    return 7 if kind is WEEKDAY else kind.high - kind.low + 1


def _listed(values: list[int]) -> str:
    texts = [str(value) for value in values]
    if len(texts) > _MAX_LISTED:
        texts = [*texts[:3], "...", texts[-1]]
    return ", ".join(texts)


def _never_matches(day: CronField, month: CronField) -> bool:
    """Return whether all months of a field are too short for all days of another."""
    if day.kind is not DAY or month.kind is not MONTH or not day.values:
        return False
    longest = max(monthrange(_LEAP_YEAR, number)[1] for number in month.values)
    return min(day.values) > longest
