"""Tables for a terminal; only this module imports rich, the package of the extra `cli`."""

from __future__ import annotations

import io
import shutil
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from pulse.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDE = 160
"""The width of an output that is no terminal."""


class Column(NamedTuple):
    """The head of a column, and whether its cells are aligned to the right."""

    head: str
    right: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; a column in which all cells are empty is omitted.

    Raises:
        MissingExtraError: rich is not installed.

    """
    if find_spec("rich") is None:
        raise MissingExtraError(
            "expected the package rich for tables, which is not installed; "
            "pip install 'pulse[cli]', or use --json"
        )
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    kept = [n for n in range(len(columns)) if any(row[n] for row in cells)]
    rich_table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for n in kept:
        column = columns[n]
        rich_table.add_column(Text(column.head), justify="right" if column.right else "left")
    for row in cells:
        rich_table.add_row(*(Text(row[n]) for n in kept))
    text = io.StringIO()
    Console(file=text, width=_width(), color_system=None).print(rich_table)
    return [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]


def _width() -> int:
    closed = sys.stdout is None  # a shell closes stdout for `>&-`
    return WIDE if closed or not sys.stdout.isatty() else shutil.get_terminal_size().columns
