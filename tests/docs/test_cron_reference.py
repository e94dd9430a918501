"""The tables of the reference page of cron: every row is so."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pulse.schedule.cron import Cron

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cron.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is *heading*, without its head."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table is not None
    return [line.strip("| ").split(" | ") for line in table[1].splitlines()]


@pytest.mark.parametrize("row", rows("form"), ids=lambda row: row[2])
def test_an_example_of_the_dialect_says_what_stands_beside_it(row: list[str]) -> None:
    """Each example is an expression, and is explained as the page explains it."""
    _, _, example, explained = row

    assert Cron(example.strip("`")).explain() == explained


@pytest.mark.parametrize("row", rows("zone"), ids=lambda row: " ".join(row[:4]))
def test_an_example_of_a_clock_change_fires_as_it_says(row: list[str]) -> None:
    """Each night has the fire times that the page gives for it."""
    zone, expression, kind, after, expected = row
    fields = expression.strip("`").split()
    cron = Cron(expression.strip("`"), timezone=zone)
    moment = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone))

    found = [moment := cron.next(moment) or moment for _ in expected.split(", ")]

    texts = [moment.isoformat(timespec="minutes") for moment in found]
    assert ", ".join(texts) == expected
    assert (kind == "wildcard") is any(field.startswith("*") for field in fields[:2])
