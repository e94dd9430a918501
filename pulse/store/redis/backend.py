"""The backend of shared stores on Redis: one server, and the keys of one application on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.naming import application_id, refuse_other_version
from pulse.store.redis.client import RedisClient
from pulse.store.redis.durability import durability_problems
from pulse.store.redis.members import LAYOUT, RedisFleetWatch
from pulse.store.redis.session import RedisSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pulse.clock import Clock, Span
    from pulse.store.base import Member
    from pulse.store.shared.backend import Transaction


class RedisBackend:
    """Keeps one application's data on a Redis server.

    Attributes:
        unused_manifests: keys of manifests that no process holds, as the last heartbeat has found.

    """

    rolls_back = False

    def __init__(self, url: str, *, space: str, patience_us: Span, stand_in: Clock | None) -> None:
        self.server: RedisClient = RedisClient(
            url, prefix=prefix_of(space), patience_us=patience_us, stand_in=stand_in
        )
        self.name: str = self.server.name
        self._url = url
        self.notice: str = ""
        self.unused_manifests: Sequence[str] = ()
        self.fleet_watch: RedisFleetWatch = RedisFleetWatch(0, 0)

    def identity(self) -> str:
        """Return the address as it was given."""
        return self._url

    def open(self) -> None:
        """Connect, and check the layout of the keys."""
        self.server.open()
        found = self.server.command("GET", self.server.key("layout"))
        version = LAYOUT if found is None else int(found)
        refuse_other_version(self.name, version, current=LAYOUT)

    def close(self) -> None:
        """Close the connections."""
        self.server.close()

    def forked(self) -> None:
        """Give up the connections, which belong to the parent process, without waiting."""
        self.server.forked()

    def sessions(self, how: Transaction) -> Iterator[RedisSession]:  # noqa: ARG002 - each call is atomic by itself
        """Yield one session: a call whose reply was lost may have been executed."""
        yield RedisSession(self)

    def observe(self, member: Member, *, boot: Span) -> None:
        """Start a new observation of the other processes, for *member*."""
        self.fleet_watch = RedisFleetWatch(member.lease_us, boot)
        self.notice = durability_problems(self.server)

    def forget(self) -> None:
        """Start the observation again: a call has failed, so others may have been silent too."""
        self.fleet_watch.forget()


def prefix_of(name: str) -> str:
    """Return the beginning of all keys of the application *name*: readable, and unique."""
    return f"{{pulse:{application_id(name, joint='-')}}}:"
