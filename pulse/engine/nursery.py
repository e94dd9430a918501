"""Where children are made: one at a time for each slot, and not in a storm where none can live."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.engine.children import Child, ChildLostError
from pulse.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Clock, Span
    from pulse.engine.wire import ChildSetup

FIRST_PAUSE: Span = SECOND
LONGEST_PAUSE: Span = 60 * SECOND


class Nursery:
    """Makes children; after one that could not load the application it pauses, longer each time.

    A claim that comes in the pause fails with the traceback that is known already.
    """

    def __init__(self, setup: ChildSetup, clock: Clock) -> None:
        self._setup = setup
        self._clock = clock
        self._problem = ""
        self._pause: Span = 0
        self._again_at: Span = 0
        self._pid = os.getpid()

    def make(self, adopt: Callable[[Child], None]) -> Child:
        """Return a child that has loaded the application; *adopt* is told of it before it loads.

        Raises:
            ChildLostError: it could not, or this is the pause after another that could not, or this
                is a copy in a forked child, which makes none.

        """
        if os.getpid() != self._pid:
            raise ChildLostError("a forked child of the process that serves makes no child process")
        left = self._again_at - self._clock.boot()
        if left > 0:
            raise ChildLostError(f"{self._problem}\n(tried again in {-(-left // SECOND)} s)")
        try:
            child = Child(self._setup, self._clock)
            adopt(child)
            child.open()
        except ChildLostError as error:
            self._back_off(str(error))
            raise
        self._pause = 0
        return child

    def _back_off(self, problem: str) -> None:
        self._problem = problem
        self._pause = min(self._pause * 2, LONGEST_PAUSE) or FIRST_PAUSE
        self._again_at = self._clock.boot() + self._pause


def check_setup(setup: ChildSetup) -> None:
    """Find out now whether a child could know its application.

    Raises:
        EngineError: neither an import string nor a paste URI is known.

    """
    if not (setup.application or setup.paste_uri):
        raise EngineError(
            "pulse.config.application: expected package.module:name, got none; in mode = "
            "processing each child process loads the application again, and must know where from"
        )
