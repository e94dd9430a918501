"""Sleeps by short steps and writes to the disk, and notes what took too long: `began ended`, in us.

The stores wait for the disk at each claim, so a disk that stands still is a machine that does.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_S = 0.02
FLUSH_EVERY_S = 0.1


def note(step: Callable[[], None], file: int, limit_us: int) -> None:
    """Repeat *step*, and record when it took longer than the limit."""
    while True:
        began = time.time_ns() // 1000
        step()
        ended = time.time_ns() // 1000
        if ended - began > limit_us:
            os.write(file, f"{began} {ended}\n".encode())


def main(path: Path, limit_us: int) -> None:
    """Continue until this process is ended."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    probe = os.open(path.with_suffix(".probe"), os.O_WRONLY | os.O_CREAT)

    def flush() -> None:
        time.sleep(FLUSH_EVERY_S)
        os.pwrite(probe, time.time_ns().to_bytes(8), 0)
        os.fsync(probe)

    threading.Thread(target=note, args=(flush, file, limit_us), daemon=True).start()
    note(lambda: time.sleep(STEP_S), file, limit_us)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
