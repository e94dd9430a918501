"""Claims made by hand, for tests that call or execute them."""

from __future__ import annotations

from pulse.core.run import Claim, Run, Trigger
from pulse.core.task import Task, build_definition

FIRE_TIME = 1_795_417_200_000_000
"""2026-11-23T07:00:00Z."""

FOR_EVER = 2**62


def make_claim(
    name: str = "cleanup",
    /,
    *,
    fire_time: int = FIRE_TIME,
    trigger: Trigger = Trigger.SCHEDULE,
    attempt: int = 1,
    run_body: bytes | None = None,
    good_until: int = FOR_EVER,
    **keywords: object,
) -> Claim:
    """Return a claim on a tick of a task with these settings."""
    task = Task(**{"action": "/sessions/cleanup", "interval": 300} | keywords)
    run = Run(
        id="0123456789abcdef" * 2,
        task=name,
        fire_time=fire_time,
        scheduled_for=fire_time,
        trigger=trigger,
        attempt=attempt,
        body=run_body,
    )
    return Claim(run, build_definition(name, task), good_until)
