"""What a fork leaves in the child: a copy of everything, which must have no effect.

Theory of operation
-------------------
A scheduler, its engine, its store and their connections belong to the process that made them. A
forked child has a copy of them all. In an ordinary process only the thread that forked goes on in
the child. In a process that gevent has patched, every greenlet of that thread goes on there, as
soon as the child waits for anything: the loop, the slots, the application's greenlets.

    at-fork hook --> Member.forked --> Served.forked --> Scheduler.forked
                                                             mark.set()       asked at each effect
                                                             store.forked()   severs connections
                                                             engine.forked()  empties its slots

`ForkMark.in_child` is the one truth: each scheduler has one mark, which its parts share. What the
rest of the code sees to, in the child:

1. Nothing is claimed, dispatched, interrupted, reported, recorded, emitted or logged by a copy, and
   nothing of the parent's is ended or closed: no child process, no session of a database server.
2. No byte is read from a connection of the parent's or written to it: its file descriptor in the
   child is replaced (`sever`), so that a copy which waits for an answer waits for ever.
3. A copied greenlet that waits inside pulse stays there (`ForkMark.stay`). It may be the
   application's, which waits for an answer, and has to be neither answered nor failed; or a thread,
   which `threading` has forgotten, and of whose end it would complain.
4. The greenlet or thread that forked is the application's. When its code comes back to pulse in the
   child, as a view that forks and returns, its result is dropped and it ends.
5. Copies are kept, not freed: what frees a greenlet ends it, and what frees a connection to SQLite
   closes it.

A child that is to take part, a worker of a server, begins anew with objects of its own.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pulse.errors import NotServingError
from pulse.patching import process_is_patched

if TYPE_CHECKING:
    from greenlet import greenlet


class ForkMark:
    """Says whether what shares it is a copy, in a forked child of the process that made it.

    Attributes:
        pid: the process that made it.
        in_child: whether this is a copy.

    """

    __slots__ = ("_forker", "in_child", "pid")

    def __init__(self) -> None:
        self.pid: int = os.getpid()
        self.in_child: bool = False
        self._forker: greenlet | None = None

    def set(self) -> None:
        """Note that this is the child; called there by whichever greenlet or thread has forked."""
        self.in_child = True
        if process_is_patched():
            from gevent import getcurrent

            self._forker = getcurrent()

    def refusal(self) -> NotServingError:
        """Return what a call of the application's is answered with in the child."""
        return refusal(self.pid)

    def ends_child(self, error: BaseException) -> bool:
        """Return whether *error* ends a program, raised in the child by what has forked it."""
        ends = isinstance(error, SystemExit | KeyboardInterrupt)
        return self.in_child and ends and self._is_forker()

    def stay(self) -> None:
        """In the child, keep any other greenlet than the one that forked from going on, for ever.

        Returns at once in the parent, and in a process without greenlets.
        """
        if self.in_child and not self._is_forker():
            stay()

    def outlast_forker(self) -> None:
        """In the child, wait in another greenlet than the one that forked until that has ended.

        So a copied greenlet that ends the process does not do so while the child is at work.
        """
        if not self.in_child or self._is_forker():
            return
        from gevent import Greenlet

        if isinstance(self._forker, Greenlet):
            self._forker.join()
        else:
            stay()

    def _is_forker(self) -> bool:
        if self._forker is None:
            return True
        from gevent import getcurrent

        return getcurrent() is self._forker


def stay() -> None:
    """Keep this greenlet from going on, for ever; return at once in a process without greenlets.

    What is thrown into the greenlet, as by a timeout of the application's, goes through. Where it
    is the main greenlet, and nothing is left for any other to do, the process ends.
    """
    if not process_is_patched():
        return
    from gevent import get_hub, getcurrent
    from gevent.exceptions import LoopExit

    hub = get_hub()
    while getcurrent() is not hub:
        try:
            hub.switch()
        except LoopExit:
            os._exit(0)


def refusal(pid: int) -> NotServingError:
    """Return what a call of the application's is answered with in a forked child of *pid*."""
    return NotServingError(
        f"pulse.scheduler: expected a call in process {pid}, where the scheduler has started, got"
        f" one in process {os.getpid()}, its forked child; make the call in the parent process"
    )


def sever(descriptor: int) -> None:
    """Let a file descriptor of the parent's lead nowhere in this forked child.

    The parent's connection stays open and untouched, whatever is done with the descriptor here:
    nothing ever comes from it, and nothing can be sent.
    """
    import _socket  # gevent's own sockets belong to a hub

    with contextlib.suppress(OSError):  # without a free descriptor nothing can be put there
        nowhere = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        try:
            nowhere.setblocking(False)  # noqa: FBT003 - the library's own signature
            os.dup2(nowhere.fileno(), descriptor, inheritable=False)
        finally:
            nowhere.close()


def import_for_fork() -> None:
    """Import what `never_free` needs: in a forked child an import may wait for a lock for ever."""
    import ctypes  # noqa: F401 - from now on it is there


def never_free(thing: object) -> None:
    """Keep *thing* for as long as this process lives, also when the interpreter cleans up."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
