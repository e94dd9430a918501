"""A progress bar on stderr, for what takes longer than a second at a terminal."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self, TypeVar

from pulse.clock import SECOND, Span, SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from rich.progress import Progress

T = TypeVar("T")

AFTER: Span = SECOND
"""How long a command works without a bar."""


class ProgressBar:
    """Shows how far a command is, from a second after its beginning; use it as a context manager.

    Where stderr is no terminal, or rich is not installed, nothing is shown.

    Args:
        text: what is done, such as `ledger`.
        total: how much there is to do; None if that is not known.

    """

    def __init__(self, text: str, *, total: int | None = None) -> None:
        self._text = text
        self._total = total
        self._clock = SystemClock()
        self._begun = self._clock.boot()
        shows = sys.stderr is not None and sys.stderr.isatty()
        self._shows = shows and find_spec("rich") is not None
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()

    def reach(self, number: int) -> None:
        """Show that so much is done."""
        if self._bar is None:
            if not self._shows or self._clock.boot() - self._begun < AFTER:
                return
            self._bar = _bar(self._text, self._total)
        self._bar.update(self._bar.task_ids[0], completed=number)


def tracked(items: Sequence[T], text: str) -> Iterator[T]:
    """Yield the items, with a bar if that takes longer than a second."""
    with ProgressBar(text, total=len(items)) as bar:
        for number, item in enumerate(items):
            bar.reach(number)
            yield item


def _bar(text: str, total: int | None) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    shown = TextColumn("{task.completed:,}") if total is None else MofNCompleteColumn()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        shown,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(text, total=total)
    bar.start()
    return bar
