"""Keeps the database connections of a Django test open while a run requests a view.

At the start and the end of each request Django closes connections that are too old or in an unknown
state. A connection in the transaction of `django.test.TestCase` is in such a state, and its end
loses what the test has written. `django.test.Client` disconnects the receiver for its requests,
and a run of time travel does the same.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def kept_connections() -> Iterator[None]:
    """Close no connection at the start and the end of a request, if Django is loaded."""
    database, signals = sys.modules.get("django.db"), sys.modules.get("django.core.signals")
    close = getattr(database, "close_old_connections", None)
    if close is None or signals is None:
        yield
        return
    both = (signals.request_started, signals.request_finished)
    disconnected = [signal for signal in both if signal.disconnect(close)]
    try:
        yield
    finally:
        for signal in disconnected:
            signal.connect(close)
