"""Lets another process of the host look at the store while this one is idle: see `host_look`.

A process looks by itself while it holds claims and for some time after it has won one, so that
several processes of a host share many runs as without a mark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.scheduler.heartbeat import HEARTBEAT_INTERVAL
from pulse.scheduler.host_look import Announcement
from pulse.scheduler.poll_delay import MAX_SLEEP, NO_WORK, until_work

if TYPE_CHECKING:
    from pulse.clock import Span
    from pulse.scheduler.host_look import HostLook
    from pulse.store.base import Claimed, Look, Store

REST_AFTER: Span = 10 * SECOND
"""How long a process for which another one looks keeps connections that it does not use."""

BUSY: Span = 2 * SECOND
"""A process that has won a claim so lately looks at the store by itself."""


class Deferral:
    """What one process does so that of the idle processes of its host one looks at the store.

    Args:
        host_look: the mark that they share.
        store: gives its connections back while another process looks.
        own_partition: that of the tasks which only this process may run; empty without such tasks.

    """

    def __init__(self, host_look: HostLook, store: Store, *, own_partition: str) -> None:
        self._host_look = host_look
        self._store = store
        self._own = own_partition
        self._own_work = Announcement(0, 0)
        self._busy_until: Span = 0
        self._rest_at: Span = 0
        self._takes_over = True
        self._asked: list[str] = []

    def early(self, now: Span) -> Span:
        """Return how much before its deadline a heartbeat is sent, so that it goes with a look."""
        return 0 if now < self._busy_until else HEARTBEAT_INTERVAL // 3

    def interval(self, now: Span) -> Span:
        """Return how long after a heartbeat the next one is sent."""
        if now < self._busy_until:
            return HEARTBEAT_INTERVAL
        return max(HEARTBEAT_INTERVAL, self._host_look.period)

    def pause(self, now: Span) -> Span:
        """Return how long another process looks for this one; 0 if this one looks."""
        if now < self._busy_until:
            return 0
        pause = self._until_takeover(now)
        if not pause:
            self._rest_at = now + REST_AFTER
        elif now >= self._rest_at:
            self._rest_at = now + REST_AFTER
            self._store.rest()
        return pause

    def _until_takeover(self, now: Span) -> Span:
        pause = self._host_look.sleep(now)
        self._takes_over |= pause > 0
        if pause and self._own:
            announced = self._host_look.announced()
            if announced is not None and announced.read_at > self._own_work.read_at:
                self._own_work = announced
            pause = min(pause, max(self._own_work.work_at - now, 0))
        return pause

    def look(self, limit: int, now: Span) -> Look:
        """Send a heartbeat and claim; `share` follows once the claims are submitted."""
        # Processes with the same configuration all have tasks of their own, or none has.
        self._asked = [self._own, *self._host_look.living(now)] if self._own else []
        observed = self._host_look.observations() if self._takes_over else None
        found = self._store.look(limit, partitions=self._asked, observed=observed)
        self._takes_over = False
        return found

    def share(self, found: Look, *, asked_at: Span) -> None:
        """Write what a look at *asked_at* has found for other processes of the host."""
        if found.observed is not None:
            self._host_look.leave_observations(found.observed)
        if self._asked and found.claimed is not None:
            until = {one: due - found.claimed.now for one, due in found.next_due.items()}
            work = {one: asked_at + until.get(one, NO_WORK) for one in self._asked}
            self._own_work = Announcement(asked_at, work[self._own])
            self._host_look.announce(asked_at, work)

    def claimed(
        self, claimed: Claimed, pause: Span, *, asked_at: Span, now: Span, holds: bool
    ) -> Span:
        """Record a claim; return how long after it the store is asked again.

        Args:
            claimed: the result of the claim.
            pause: the pause of a process without a mark.
            asked_at: the boot clock just before the claim.
            now: the boot clock after it.
            holds: whether this process holds claims.

        """
        wait = until_work(claimed)
        self._host_look.looked(asked_at, wait)
        if claimed.claims:
            self._busy_until = now + BUSY
        if claimed.claims or claimed.not_run or self._own_work.read_at != asked_at:
            self._own_work = Announcement(asked_at, asked_at + wait)
        if holds or now < self._busy_until:
            return pause  # it looks for itself, as often as without a mark
        if wait > MAX_SLEEP:  # in a large fleet the next look comes later than that
            pause = max(asked_at + wait - now, 0)
        return min(pause, max(asked_at + self._host_look.period - now, 0))

    def keep_others_alive(self, now: Span, *, machines: int) -> None:
        """Send the heartbeats of the processes for which this one looks, in a fleet of machines."""
        self._host_look.set_hosts(machines)
        if reports := self._host_look.to_keep_alive(now):
            self._host_look.call(self._store.keep_alive(reports))

    def store_failed(self, now: Span, lease_us: Span) -> None:
        """Leave no observation to others: holders could not renew their leases either.

        For a lease this process looks by itself: what its call has claimed may be written late.
        """
        self._host_look.forget_observations()
        self._busy_until = now + lease_us

    def close(self) -> None:
        """Let nobody look for this process any more: it ends."""
        self._host_look.close()
