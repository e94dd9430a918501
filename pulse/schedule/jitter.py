"""Jitter: the delay of a tick after its fire time, which is equal in every process."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.clock import Instant, Span


def delay_of(task: str, fire_time: Instant, *, below: Span) -> Span:
    """Return the delay of a tick, from zero to less than *below*.

    The delay is a hash of task and fire time. Delays are uniformly distributed over tasks and over
    the ticks of a task, and processes need no shared state for them.
    """
    if below <= 0:
        return 0
    tick = f"{task}\0{fire_time}".encode()
    return int.from_bytes(blake2b(tick, digest_size=8).digest()) % below
