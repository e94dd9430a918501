"""Whether calls of psycopg yield to other greenlets, which psycopg decides when it is imported."""

from __future__ import annotations

import sys

LATE_NOTICE = (
    "psycopg was imported before gevent patched this process, so its calls do not yield, and pulse"
    " makes them in a native thread (patch first, or import psycopg later)"
)


def calls_yield() -> bool:
    """Return whether a call in one greenlet yields to others, without importing psycopg."""
    return _is_patched() and not imported_too_early()


def imported_too_early() -> bool:
    """Return whether psycopg was imported before gevent patched the process."""
    waiting = sys.modules.get("psycopg.waiting")
    chosen = getattr(getattr(waiting, "wait", None), "__name__", "")
    return _is_patched() and chosen == "wait_c"


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("select"))
