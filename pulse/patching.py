"""Whether gevent has patched this process; the check does not import gevent."""

from __future__ import annotations

import sys
from importlib import import_module


def process_is_patched() -> bool:
    """Return whether gevent has patched this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def native(module: str, name: str) -> object:
    """Return a module's original function, which gevent may have replaced."""
    if not process_is_patched():
        return getattr(import_module(module), name)
    from gevent.monkey import get_original

    original: object = get_original(module, name)
    return original
