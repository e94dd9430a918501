"""The members of this process, and the two moments that come only to the process: fork and exit."""

from __future__ import annotations

import atexit
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pulse.engine.loop import spawn

if TYPE_CHECKING:
    from pulse.serving.base import Begun, Host, Member


class Running(NamedTuple):
    """What has begun in this process, and the member that it belongs to, which may be gone."""

    member: weakref.ref[Member]
    begun: Begun
    host: Host


class Roll:
    """Knows, without keeping them alive, the members that were arranged in this process.

    What has begun is kept alive until it has ended, also where its member was dropped meanwhile:
    such a one is retired. It claims nothing more from the moment of the drop; it is ended, within
    its drain, by its own loop, by the next member that begins, or by the exit of the process.
    """

    __slots__ = ("_copies", "_members", "_retiring", "_running", "_watches")

    def __init__(self) -> None:
        self._members: tuple[weakref.ref[Member], ...] = ()
        self._running: list[Running] = []
        self._copies: list[Begun] = []  # of the parent's, kept as `pulse.forks` says
        self._retiring = False
        self._watches = False

    def add(self, member: Member) -> None:
        """Take *member* in: it is told of forks from now on."""
        # One assignment: a fork in another thread finds either the old members or the new.
        self._members = (*(known for known in self._members if known()), weakref.ref(member))
        if not self._watches:
            self._watches = True
            os.register_at_fork(after_in_child=self._forked)

    def members(self) -> list[Member]:
        """Return the members that are still alive, oldest first."""
        return [member for known in self._members if (member := known()) is not None]

    def begun(self, member: Member, begun: Begun, host: Host) -> None:
        """Keep *begun* until it has ended."""
        self._running.append(Running(weakref.ref(member), begun, host))

    def ended(self, begun: Begun) -> None:
        """Keep *begun* no longer."""
        for each in [each for each in self._running if each.begun is begun]:
            with suppress(ValueError):  # another thread has removed it meanwhile
                self._running.remove(each)

    def has_dropped(self) -> bool:
        """Return whether something runs whose member was dropped."""
        return any(each.member() is None for each in self._running)

    def retire(self) -> None:
        """End what has begun and whose member was dropped, and wait for that."""
        dropped = [each for each in self._running if each.member() is None]
        for each in dropped:
            each.begun.quiet()
        for each in dropped:
            each.begun.end(each.host.limit_s())
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
        self.retire()

    def _forked(self) -> None:
        self._copies += [each.begun for each in self._running]
        self._running = []
        self._retiring = False
        for copy in self._copies:
            copy.forked()
        for member in self.members():
            member.forked()


def end_all(members: list[Member]) -> None:
    """Stop all claims first, then let the members drain one after the other."""
    for member in members:
        member.quiet()
    for member in members:
        member.end()


ROLL = Roll()
"""One for the process, as at-fork and at-exit callbacks are, which cannot be taken back."""
