"""The timer that kills a process needs neither a thread nor the interpreter."""

from __future__ import annotations

import signal
import subprocess
import sys

BOUND_S = 60.0
START = "import os, sys\nfrom pulse.worker.deadline import KillTimer\ntimer = KillTimer()\n"
STUCK = "sum(range(10**12))\n"


def status_of(program: str) -> int:
    """Return the exit status of a program."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", START + program]
    return subprocess.run(command, timeout=BOUND_S, check=False).returncode


def test_native_code_that_lets_no_thread_go_on_is_ended() -> None:
    """No Python code runs until then."""
    assert status_of(f"timer.start(300_000)\n{STUCK}") == -signal.SIGKILL


def test_timer_that_is_stopped_ends_nothing() -> None:
    """The process sleeps past the instant."""
    program = "import time\ntimer.start(200_000)\ntimer.stop()\ntime.sleep(0.6)\nsys.exit(7)\n"
    assert status_of(program) == 7


def test_timer_that_is_started_again_counts_from_then() -> None:
    """The earlier instant has no effect."""
    again = "timer.start(200_000)\ntimer.start(60_000_000)\n"
    assert status_of(f"import time\n{again}time.sleep(0.6)\nsys.exit(7)\n") == 7


def test_process_that_is_forked_has_no_timer() -> None:
    """It outlives the instant, and ends as it wants."""
    program = (
        "import time\ntimer.start(1_000_000)\nchild = os.fork()\n"
        "if child == 0:\n    time.sleep(1.5)\n    sys.exit(7)\n"
        "timer.stop()\nsys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert status_of(program) == 7
