"""Columns of cells as array literals: a whole batch is a handful of values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.store.sql.database import Cell

_SPECIAL = ('"', "\\", "\0")


def plain(text: str) -> str:
    """Return a text as PostgreSQL takes it: without NUL, and without halves of characters."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def literal(cells: Sequence[Cell]) -> str:
    """Return `{1,NULL,"two"}`."""
    first = cells[0] if cells else None
    if isinstance(first, str) and None not in cells and not _needs_care(cells):
        return '{"' + '","'.join(map(str, cells)) + '"}'
    return "{" + ",".join([_spell(cell) for cell in cells]) + "}"


def _needs_care(cells: Sequence[Cell]) -> bool:
    whole = "".join(map(str, cells))
    return not whole.isascii() or any(sign in whole for sign in _SPECIAL)


def _spell(cell: Cell) -> str:
    if cell is None:
        return "NULL"
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, bytes):
        return f'"\\\\x{cell.hex()}"'
    return '"' + plain(str(cell)).replace("\\", "\\\\").replace('"', '\\"') + '"'
