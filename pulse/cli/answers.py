"""How a command answers: a table at a terminal, tab-separated text in a pipe, JSON on request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.log.format import escape_control_characters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCHEMA = 1
"""The number of the layout of JSON documents; it rises when a member is renamed or removed."""

_STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "failed": "red",
    "timed_out": "red",
    "abandoned": "red",
    "unexplained": "bold red",
    "missed": "yellow",
    "skipped": "yellow",
    "paused": "yellow",
    "interrupted": "yellow",
}
"""The colours of outcomes at a terminal, beside their words."""

_NO_RICH = "pulse: pip install 'pulse[cli]' for tables at a terminal"


class Listing(NamedTuple):
    """A table.

    Attributes:
        heads: the heads of its columns.
        rows: a text for each cell.
        spare: the heads of columns that a narrow terminal does not show, the first to go first.

    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    spare: Sequence[str] = ()


_NOTHING = frozenset({"", "0"})
"""The cells of a column that is not shown at a terminal."""

_GAP = 3
_LEAST = 8
"""The gap between two columns, and the width to which a column is cut at most."""


def fitted(listing: Listing, width: int) -> Listing:
    """Return a table for a terminal: without empty and spare columns, and with texts that are cut.

    The last column, which holds free text, is cut first, then the widest ones.
    """
    cells = [[escape_control_characters(cell) for cell in row] for row in listing.rows]
    said = [n for n in range(len(listing.heads)) if any(row[n] not in _NOTHING for row in cells)]
    kept = said or [0]
    widths = {n: max(len(listing.heads[n]), *(len(row[n]) for row in cells)) for n in kept}
    for head in listing.spare:
        if _total(widths) - max(widths[max(widths)] - 2 * _LEAST, 0) <= width:
            break
        left = {n: size for n, size in widths.items() if listing.heads[n] != head}
        widths = left or widths
    order = [max(widths), *sorted(widths, key=lambda n: -widths[n])]
    for n in order:
        excess = _total(widths) - width
        if excess > 0:
            widths[n] = max(widths[n] - excess, min(widths[n], _LEAST))
    return Listing(
        [_cut(listing.heads[n], size) for n, size in widths.items()],
        [[_cut(row[n], size) for n, size in widths.items()] for row in cells],
    )


def _total(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


class Answer(NamedTuple):
    """What a command has found.

    Attributes:
        document: the members of the JSON document, which views and builtins make.
        listings: the tables.
        sentences: what a person reads after them; on stderr if a table goes into a pipe.
        status: the exit status.
        opening: what a person reads before the tables; not printed in a pipe.
        page: an HTML page, which is printed instead of all that, and not at a terminal.

    """

    document: Mapping[str, object]
    listings: Sequence[Listing] = ()
    sentences: Sequence[str] = ()
    status: int = 0
    opening: Sequence[str] = ()
    page: str = ""

    def notes(self) -> list[str]:
        """Return the sentences that a pipe has no place for beside a table, for stderr."""
        lines = self.sentences if self.listings else ()
        return [escape_control_characters(line) for line in lines]


def text_of(answer: Answer, *, as_json: bool) -> list[str]:
    """Return the lines of an answer in a pipe, or as JSON."""
    if as_json:
        encoded = msgspec.json.encode({"schema": SCHEMA} | dict(answer.document))
        return [msgspec.json.format(encoded, indent=2).decode()]
    if not answer.listings:
        return [escape_control_characters(line) for line in answer.sentences]
    lines: list[str] = []
    for listing in answer.listings:
        lines += [_tabbed(row) for row in (listing.heads, *listing.rows)]
    return lines


def show(answer: Answer) -> None:
    """Print an answer at a terminal, as tables if rich is installed."""
    from importlib.util import find_spec  # slow to import, and not needed in a pipe

    if find_spec("rich") is None:
        for line in (
            *text_of(answer, as_json=False),
            *(answer.sentences if answer.listings else ()),
        ):
            print(line)  # noqa: T201 - the output of the command
        print(_NO_RICH, file=sys.stderr)  # noqa: T201 - the output of the command
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    for line in answer.opening:
        console.print(Text(escape_control_characters(line)), soft_wrap=True)
    for listing in answer.listings:
        console.print(_rich_table(fitted(listing, console.width)))
    for line in answer.sentences:
        console.print(Text(escape_control_characters(line)), soft_wrap=True)


def _rich_table(listing: Listing) -> object:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    rich_table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in listing.heads:
        rich_table.add_column(Text(head), no_wrap=True, overflow="ellipsis")
    for row in listing.rows:
        rich_table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return rich_table


def _tabbed(cells: Iterable[str]) -> str:
    return "\t".join(escape_control_characters(cell) for cell in cells)
