"""Python processes that use a store and wait for a word of the test.

A program consists of code that opens its store as `store`, followed by a part from this module.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

RunChild = Callable[..., subprocess.Popen[str]]
"""Starts a program with arguments; the fixture `run_child`."""

RACE = """
store.sync({f"t{n}": build_definition(f"t{n}", make_task(interval=1)) for n in range(200)})
print("ready", flush=True)
sys.stdin.readline()
while True:
    claimed = store.claim_due(9)
    for claim in claimed.claims:
        print(claim.run.id)
    if claimed.next_wakeup > claimed.now:
        break
store.close()
"""
"""Declares two hundred tasks; told to go, prints the id of each run that it wins."""

HOLD_ONE = """
task = make_task(run_at_start=True, on_abandoned=sys.argv[2])
store.sync({"work": build_definition("work", task)})
(claim,) = store.claim_due(1).claims
print(claim.run.id, flush=True)
sys.stdin.readline()
"""
"""Claims a run, with `on_abandoned` as the second argument says, and holds it until told to go."""


def say_go(child: subprocess.Popen[str]) -> None:
    """Send the word that a child waits for."""
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()


def hear(child: subprocess.Popen[str]) -> str:
    """Return the next line that a child writes."""
    assert child.stdout is not None
    return child.stdout.readline().strip()
