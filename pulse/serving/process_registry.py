"""The members of this process, and the two moments that come only to the process: fork and exit."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.serving.base import Member


class Roll:
    """Knows, without keeping them alive, the members that were arranged in this process."""

    __slots__ = ("_members", "_watches")

    def __init__(self) -> None:
        self._members: tuple[weakref.ref[Member], ...] = ()
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

    def await_exit(self) -> None:
        """See to it that the members end before the interpreter does."""
        atexit.unregister(self._leave)
        atexit.register(self._leave)

    def _forked(self) -> None:
        for member in self.members():
            member.forked()

    def _leave(self) -> None:
        """End all; whoever presses Ctrl-C again has waited enough."""
        try:
            end_all(self.members())
        except KeyboardInterrupt:
            end_all(self.members())


def end_all(members: list[Member]) -> None:
    """Stop all claims first, then let the members drain one after the other."""
    for member in members:
        member.quiet()
    for member in members:
        member.end()


ROLL = Roll()
"""One for the process, as at-fork and at-exit callbacks are, which cannot be taken back."""
