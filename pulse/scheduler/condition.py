"""How one process is: whether its loop goes on, and whether it may be relied on for ticks."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from pulse.clock import SECOND, Span

LOOP_PATIENCE: Span = 60 * SECOND
"""How long a loop may be in one step; a call of the store ends much earlier."""


class State(IntEnum):
    """How far a scheduler has come; it only moves forward.

        NEW --store opened--> OPEN --tasks synced--> CLAIMING --asked to stop--> DRAINING
            --slots stopped--> STOPPING --ends recorded, store left--> CLOSED

    A process that is asked to stop before it could join the store goes to DRAINING from NEW or
    OPEN, and joins no more. A copy in a forked child is CLOSED.
    """

    NEW = 0
    OPEN = 1
    CLAIMING = 2
    DRAINING = 3
    STOPPING = 4
    CLOSED = 5


class Condition(NamedTuple):
    """How a process is.

    Attributes:
        is_live: whether its loop goes on; a restart mends a process that is not live, and nothing
            else.
        is_ready: whether it may be relied on for ticks.
        reason: why it is not ready; empty if it is.

    """

    is_live: bool
    is_ready: bool
    reason: str = ""


NOT_STARTED = Condition(is_live=True, is_ready=False, reason="no scheduler has started here")


def condition_of(
    state: State,
    *,
    accepts: bool,
    in_step_for: Span,
    lost_for: Span | None,
    lease_us: Span,
) -> Condition:
    """Return the condition of a process.

    Args:
        state: how far its scheduler has come.
        accepts: whether the server lets it accept new work.
        in_step_for: for how long its loop has been in one step, or in one sleep.
        lost_for: for how long the store has not answered; None if it does.
        lease_us: the length of its leases.

    """
    if state < State.STOPPING and in_step_for > max(3 * lease_us, LOOP_PATIENCE):
        return Condition(is_live=False, is_ready=False, reason="its loop is stuck")
    if state < State.CLAIMING:
        return Condition(is_live=True, is_ready=False, reason="it has not joined the store yet")
    if state > State.CLAIMING or not accepts:
        return Condition(is_live=True, is_ready=False, reason="it stops")
    if lost_for is not None and lost_for > lease_us:
        return Condition(is_live=True, is_ready=False, reason="the store does not answer")
    return Condition(is_live=True, is_ready=True)
