"""Whether gevent has patched this process; gevent is not imported to find out."""

from __future__ import annotations

import sys


def process_is_patched() -> bool:
    """Return whether gevent has patched this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))
