"""Forks the process that runs a test, and returns how the child ended.

The process may have several threads. Python 3.12 and later warn of such a fork. Warnings are errors
in tests, and from Python 3.15 on `os.fork` raises this one. `pyproject.toml` excuses this module
alone, so that a fork by anything else is still an error.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def in_child(act: Callable[[], bool], *, fork: Callable[[], int] | None = None) -> int:
    """Fork; return the child, which ends with 0 if *act* returns True there.

    Args:
        act: what the child does.
        fork: the function that forks, by default `os.fork`, which gevent may have patched.

    """
    child = (fork or os.fork)()
    if child:
        return child
    status = 1
    try:
        status = 0 if act() else 2
    finally:
        os._exit(status)


def status_of(child: int) -> int:
    """Return how a child ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
