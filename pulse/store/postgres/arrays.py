"""Array literals of PostgreSQL: a column of a batch is one value of the statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.store.sql.database import Cell


def plain(text: str) -> str:
    """Return a text that PostgreSQL accepts: without NUL and without lone surrogates."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def literal(cells: Sequence[Cell]) -> str:
    """Return an array literal, such as `{1,NULL,"two"}`."""
    kinds = {*map(type, cells)}
    if kinds == {int}:
        return "{" + ",".join(map(str, cells)) + "}"
    if kinds == {str}:
        joined = '","'.join(cells)  # type: ignore[arg-type] # all are texts
        special = joined.count('"') > 2 * (len(cells) - 1) or "\\" in joined or "\0" in joined
        if joined.isascii() and not special:
            return '{"' + joined + '"}'
    return "{" + ",".join([_element(cell) for cell in cells]) + "}"


def _element(cell: Cell) -> str:
    if cell is None:
        return "NULL"
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, bytes):
        return f'"\\\\x{cell.hex()}"'
    return '"' + plain(str(cell)).replace("\\", "\\\\").replace('"', '\\"') + '"'
