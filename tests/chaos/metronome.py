"""Sleeps by short steps, and writes down each step that took too long: `began ended`, in us."""

from __future__ import annotations

import sys
import time
from pathlib import Path

STEP_S = 0.02


def main(path: Path, limit_us: int) -> None:
    """Go on until this process is ended."""
    with path.open("a", buffering=1) as file:
        while True:
            began = time.time_ns() // 1000
            time.sleep(STEP_S)
            ended = time.time_ns() // 1000
            if ended - began > limit_us:
                file.write(f"{began} {ended}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
