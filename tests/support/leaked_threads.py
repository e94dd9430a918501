"""Finds threads of pulse that a test has left running."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

PREFIX = "pulse-"
"""The names of all threads that pulse starts begin with this."""


def pulse_threads() -> set[threading.Thread]:
    """Return the threads of pulse that run in this process."""
    return {each for each in threading.enumerate() if each.name.startswith(PREFIX)}


def leaked_threads(before: AbstractSet[threading.Thread], *, wait_s: float) -> list[str]:
    """Return the sorted names of new threads of pulse that still run after *wait_s* seconds.

    Args:
        before: the threads that ran before the test; they are not reported.
        wait_s: how long to wait, in all, for new threads to end.

    """
    deadline = time.monotonic() + wait_s
    new = pulse_threads() - before
    for each in new:
        each.join(max(0.0, deadline - time.monotonic()))
    return sorted(each.name for each in new if each.is_alive())
