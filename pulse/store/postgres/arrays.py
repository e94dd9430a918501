"""Columns of cells as array literals: a whole batch is a handful of values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.store.sql.link import Cell


def plain(value: Cell) -> Cell:
    """Return a value as PostgreSQL takes it: its text holds no NUL, and no half characters."""
    if isinstance(value, str):
        if "\0" in value:
            value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        if not value.isascii():
            value = value.encode("utf-8", "replace").decode()
    return value


def literal(cells: Sequence[Cell]) -> str:
    """Return `{1,NULL,"two"}`."""
    return "{" + ",".join(map(_spell, cells)) + "}"


def _spell(cell: Cell) -> str:
    if cell is None:
        return "NULL"
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, bytes):
        return f'"\\\\x{cell.hex()}"'
    text = str(plain(cell))
    if text.isalnum() and text.isascii() and text.upper() != "NULL":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
