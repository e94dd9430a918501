"""Jitter: how long after its fire time a tick becomes due, the same in every process."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.clock import Instant, Span


def delay_of(task: str, fire_time: Instant, *, below: Span) -> Span:
    """Return the delay of one tick, from zero to less than *below*.

    It is a hash of task and fire time: spread evenly over tasks and over a task's ticks, without a
    state that processes would have to agree on.
    """
    if below <= 0:
        return 0
    words = f"{task}\0{fire_time}".encode()
    return int.from_bytes(blake2b(words, digest_size=8).digest()) % below
