"""Waits for the end of a run, by asking the store again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.errors import UnknownRunError

if TYPE_CHECKING:
    from pulse.clock import Clock, Span
    from pulse.core.run import Run
    from pulse.store.steering import Steering

FIRST_PAUSE: Span = SECOND // 50
LONGEST_PAUSE: Span = SECOND
"""How long to wait between two calls of the store: at first, and at most."""


def wait_for_run(store: Steering, ident: str, limit: Span | None, *, clock: Clock) -> Run:
    """Return a run once it has ended, or as it is when *limit* is over.

    Raises:
        UnknownRunError: no such run, or it is not kept any more.

    """
    until, pause = None if limit is None else clock.boot() + limit, FIRST_PAUSE
    while True:
        run = store.run(ident)
        if run is None:
            raise UnknownRunError(f"expected the id of a run that is kept, got {ident!r}")
        left = pause if until is None else min(pause, until - clock.boot())
        if run.outcome is not None or left <= 0:
            return run
        clock.sleep(left)
        pause = min(pause * 2, LONGEST_PAUSE)
