"""The members of this process, and the two moments that come only to the process: fork and exit."""

from __future__ import annotations

import atexit
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from pulse.engine.loop_thread import spawn

if TYPE_CHECKING:
    from pulse.serving.base import Identity, ManagedLifecycle, RunningService, Server


class Running:
    """What has begun in this process, and the member that it belongs to, which may be gone.

    Attributes:
        kept: what must be there for this to go on after its member was dropped.
        goes_on: whether it goes on then.

    """

    __slots__ = ("begun", "goes_on", "host", "identity", "kept", "member")

    def __init__(
        self, member: ManagedLifecycle, begun: RunningService, host: Server, *, kept: object
    ) -> None:
        self.member: weakref.ref[ManagedLifecycle] = weakref.ref(member)
        self.identity: Identity | None = member.identity
        self.begun: RunningService = begun
        self.host: Server = host
        self.kept: object = kept
        self.goes_on: bool = kept is not None

    def is_dropped(self) -> bool:
        """Return whether the member is gone, and this is to end with it."""
        return not self.goes_on and self.member() is None

    def release(self) -> None:
        """End with the member; what is kept may be all that keeps the member itself in use."""
        self.goes_on = False
        if self.member() is not None:
            self.kept = None


class ProcessRegistry:
    """Knows, without keeping them alive, the members that were arranged in this process.

    What has begun is kept until it has ended, also where its member was dropped meanwhile. Such a
    one claims nothing more from the moment of the drop, and is ended, within its drain, by its own
    loop, by the next member that begins, or by the exit of the process. What was asked to run in
    this process whatever serves goes on, until a member of the same identity wants its place.
    """

    __slots__ = ("_copies", "_members", "_retiring", "_running", "_watches")

    def __init__(self) -> None:
        self._members: tuple[weakref.ref[ManagedLifecycle], ...] = ()
        self._running: list[Running] = []
        self._copies: list[RunningService] = []  # of the parent's, kept as `pulse.forks` says
        self._retiring = False
        self._watches = False

    def add(self, member: ManagedLifecycle) -> None:
        """Take *member* in: it is told of forks from now on."""
        # One assignment: a fork in another thread finds either the old members or the new.
        self._members = (*(known for known in self._members if known()), weakref.ref(member))
        if not self._watches:
            self._watches = True
            os.register_at_fork(after_in_child=self._forked)

    def members(self) -> list[ManagedLifecycle]:
        """Return the members that are still alive, oldest first."""
        return [member for known in self._members if (member := known()) is not None]

    def begun(
        self, member: ManagedLifecycle, begun: RunningService, host: Server, *, kept: object = None
    ) -> None:
        """Keep *begun* until it has ended; with *kept* it does not end with its member."""
        self._running.append(Running(member, begun, host, kept=kept))

    def ended(self, begun: RunningService) -> None:
        """Keep *begun* no longer."""
        for each in [each for each in self._running if each.begun is begun]:
            with suppress(ValueError):  # another thread has removed it meanwhile
                self._running.remove(each)

    def has_dropped(self, identity: Identity | None) -> bool:
        """Return whether something has to end before a member of this identity can begin."""
        self.release(identity)
        return any(each.is_dropped() for each in self._running)

    def goes_on(self, member: object) -> bool:
        """Return whether work is wanted for a member that was dropped, by its weak reference."""
        kept = (each for each in self._running if each.member is member and each.goes_on)
        return any(each.host.serving() for each in kept)

    def release(self, identity: Identity | None) -> None:
        """Let what goes on under this identity end with its member: another wants its place."""
        for each in self._running:
            if identity is not None and each.identity == identity:
                each.release()

    def retire(self) -> None:
        """End what is to end because its member was dropped, and wait for that."""
        dropped = [each for each in self._running if each.is_dropped()]
        for each in dropped:
            each.begun.stop_claiming()
        for each in dropped:
            each.begun.shutdown(each.host.limit_s())
            self.ended(each.begun)

    def retire_soon(self) -> None:
        """Do the same beside the caller, which is a loop that has to end with it."""
        if not self._retiring:
            self._retiring = True
            with suppress(RuntimeError):  # the interpreter exits, and ends all by itself
                spawn(self._retire_beside, "pulse-retire")

    def _retire_beside(self) -> None:
        try:
            self.retire()
        finally:
            self._retiring = False

    def await_exit(self) -> None:
        """See to it that all ends before the interpreter does."""
        atexit.unregister(self.leave)
        atexit.register(self.leave)

    def leave(self) -> None:
        """End all; whoever presses Ctrl-C again, or ends the program again, has waited enough."""
        try:
            self._end_all()
        except (KeyboardInterrupt, SystemExit):
            self._end_all()

    def _end_all(self) -> None:
        end_all(self.members())
        for each in self._running:
            each.goes_on = False
        self.retire()

    def _forked(self) -> None:
        self._copies += [each.begun for each in self._running]
        self._running = []
        self._retiring = False
        for copy in self._copies:
            copy.forked()
        for member in self.members():
            member.forked()


def end_all(members: list[ManagedLifecycle]) -> None:
    """Stop all claims first, then let the members drain one after the other."""
    for member in members:
        member.quiet()
    for member in members:
        member.end()


REGISTRY = ProcessRegistry()
"""One for the process, as at-fork and at-exit callbacks are, which cannot be taken back."""
