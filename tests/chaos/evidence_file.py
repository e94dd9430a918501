"""The file that all processes of a fleet append their lines to."""

from __future__ import annotations

import json
import os
import time


def note(what: str, **more: object) -> None:
    """Append one line in a single write, which O_APPEND keeps whole."""
    record = {
        "what": what,
        "wall": time.time_ns() // 1000,
        "boot": time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000,
        "pid": os.getpid(),
    }
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    file = os.open(os.environ["EVIDENCE"], flags, 0o600)
    try:
        os.write(file, (json.dumps(record | more) + "\n").encode())
    finally:
        os.close(file)
