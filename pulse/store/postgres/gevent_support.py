"""Whether calls of the driver let other greenlets go on, which it decides when it is imported."""

from __future__ import annotations

import sys

LATE_NOTICE = (
    "psycopg was imported before gevent patched this process, so its calls do not yield: they go"
    " through a native thread here (patch first, or import psycopg later)"
)


def calls_yield() -> bool:
    """Return whether a call in one greenlet lets the others go on; nothing is imported."""
    return _is_patched() and not imported_too_early()


def imported_too_early() -> bool:
    """Return whether the driver was imported first, and gevent has patched the process since."""
    waiting = sys.modules.get("psycopg.waiting")
    chosen = getattr(getattr(waiting, "wait", None), "__name__", "")
    return _is_patched() and chosen == "wait_c"


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("select"))
