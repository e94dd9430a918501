"""Finds the code in Markdown files: each fenced block, with its language, place and mark.

A block is marked as one that nothing can run by the line before it:

    <!-- not run: the reason -->
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>\S*)(?P<rest>.*)")
_MARK = re.compile(r"<!-- not run: (?P<reason>.+) -->")


class Block(NamedTuple):
    """A fenced block; *reason* states why it is not run, and is empty if it is run."""

    file: Path
    line: int
    language: str
    code: str
    reason: str


def blocks_of(file: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a Markdown file, in order."""
    lines = enumerate(file.read_text().splitlines(), start=1)
    before = ""
    for number, line in lines:
        opened = _FENCE.match(line)
        if opened:
            code = _read_until(opened, lines)
            mark = _MARK.search(before)
            reason = mark["reason"] if mark else ""
            yield Block(file, number, opened["language"], code, reason)
        before = line.strip() or before


def _read_until(opened: re.Match[str], lines: Iterator[tuple[int, str]]) -> str:
    code = []
    for _, line in lines:
        if line.strip() == opened["fence"]:
            return "".join(code)
        code.append(line.removeprefix(opened["indent"]) + "\n")
    raise AssertionError(f"a block is not closed: {opened[0]}")
