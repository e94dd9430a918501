"""Forked children: the copy of a scheduler in a forked child must have no effect.

Theory of operation
-------------------
A scheduler, its engine, its store and their connections belong to the process that made them. A
forked child has a copy of them all. In an ordinary process only the thread that forked continues in
the child. In a process that gevent has patched, every greenlet of that thread continues in the
child as soon as the child waits for anything: the loop, the slots, the application's greenlets.

    at-fork hook --> ServiceLifecycle.forked --> PulseRuntime.forked --> Scheduler.forked
                                                     mark.set()       checked before each effect
                                                     store.forked()   severs connections
                                                     engine.forked()  empties its slots

Only `ForkMark.in_child` decides whether an object is a copy: each scheduler has one mark, which its
parts share. The rest of the code keeps these rules in the child:

1. A copy claims, dispatches, interrupts, reports, records, emits and logs nothing, and ends or
   closes nothing of the parent's: no child process, no session of a database server.
2. No byte is read from or written to a connection of the parent: its file descriptor in the child
   is replaced (`sever`), so a copy that waits for an answer waits for ever.
3. A copied greenlet that waits inside pulse keeps waiting (`ForkMark.stay`). It may belong to the
   application, which must get neither an answer nor an error; or it may be a thread that
   `threading` no longer lists, and whose end `threading` would report as an error.
4. The greenlet or thread that forked belongs to the application. When its code returns to pulse in
   the child, as from a view that forks and returns, its result is dropped and it ends.
5. Copies are kept, not freed: freeing a greenlet ends it, and freeing a connection to SQLite closes
   it.

A child that has to run pulse, such as a worker of a server, starts it with objects of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from pulse.errors import NotServingError
from pulse.patching import native, process_is_patched

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlet import greenlet


FORK_S = 0.01
"""After how many seconds a signal that came during a fork is sent again."""


class ForkMark:
    """Whether the objects that share this mark are copies in a forked child.

    Attributes:
        pid: the process that made the objects.
        in_child: whether the objects are copies.

    """

    __slots__ = ("_forker", "in_child", "pid")

    def __init__(self) -> None:
        self.pid: int = os.getpid()
        self.in_child: bool = False
        self._forker: greenlet | None = None

    def set(self) -> None:
        """Mark the objects as copies; called in the child by the greenlet or thread that forked."""
        self.in_child = True
        if process_is_patched():
            from gevent import getcurrent

            self._forker = getcurrent()

    def refusal(self) -> NotServingError:
        """Return the error that a call of the application gets in the child."""
        return refusal(self.pid)

    def ends_child(self, error: BaseException) -> bool:
        """Return whether *error* ends the child: an exit raised by the greenlet that forked."""
        ends = isinstance(error, SystemExit | KeyboardInterrupt)
        return self.in_child and ends and self._is_forker()

    def stay(self) -> None:
        """In the child, block every greenlet except the one that forked, for ever.

        It returns at once in the parent, and in a process without greenlets.
        """
        if self.in_child and not self._is_forker():
            stay()

    def outlast_forker(self) -> None:
        """In the child, block every greenlet except the one that forked until that one has ended.

        So a copied greenlet that ends the process does not end it while the child still works.
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
    """Block this greenlet for ever; return at once in a process without greenlets.

    An exception that is thrown into the greenlet, such as a timeout of the application, is raised.
    If this is the main greenlet and no other greenlet has anything to do, the process ends.
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


class ForkSignals:
    """Keeps signals from being lost while this process forks.

    CPython forgets in a forked child each signal whose Python handler has not run yet
    (`_PySignal_AfterFork`), so a signal that is sent right after the fork would be lost. The thread
    that forks therefore blocks the signals until the hooks of the fork have run.

    What a handler raises inside a hook of a fork is printed and dropped (`os.register_at_fork`),
    and the hook is left half done: that of `logging` then never releases a lock. Other threads of
    the process have not blocked the signals, so a handler may run there all the same, in the main
    thread. It asks `defers` first.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = frozenset(numbers)
        self._ident: Callable[[], int] = native("_thread", "get_ident")  # type: ignore[assignment] # its type is not known
        self._main = 0
        self._masks: dict[int, set[int]] = {}
        self._forking = False

    def register(self) -> None:
        """Register the hooks; call it in the main thread, after other hooks were registered.

        Of the hooks before a fork the one that was registered last runs first, of those after a
        fork it runs last. Those of `logging` are registered when it is imported.
        """
        import logging  # noqa: F401 - only loaded

        self._main = self._ident()
        os.register_at_fork(
            before=self._begin, after_in_parent=self._end, after_in_child=self._end_in_child
        )

    def defers(self, number: int) -> bool:
        """Return whether a handler has to return at once: the signal is sent again after the fork.

        A handler runs in the main thread.
        """
        if self._forking:
            native("_thread", "start_new_thread")(_send_again, (os.getpid(), number))  # type: ignore[operator] # its type is not known
        return self._forking

    def _begin(self) -> None:
        ident = self._ident()
        if ident == self._main:
            self._forking = True
        self._masks[ident] = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)

    def _end(self) -> None:
        ident = self._ident()
        mask = self._masks.pop(ident, None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if ident == self._main:
            self._forking = False

    def _end_in_child(self) -> None:
        self._end()
        self._forking = False
        self._masks.clear()


def _send_again(pid: int, number: int) -> None:
    native("time", "sleep")(FORK_S)  # type: ignore[operator] # its type is not known
    os.kill(pid, number)


def refusal(pid: int) -> NotServingError:
    """Return the error that a call of the application gets in a forked child of *pid*."""
    return NotServingError(
        f"pulse.scheduler: expected a call in process {pid}, where the scheduler has started, got"
        f" one in process {os.getpid()}, its forked child; make the call in the parent process"
    )


def sever(descriptor: int) -> None:
    """Replace the parent's file descriptor in this forked child by an unconnected socket.

    The parent's connection stays open and unchanged, whatever is done with the descriptor here:
    nothing can be received from it, and nothing can be sent.
    """
    import _socket  # gevent's sockets belong to a hub

    with contextlib.suppress(OSError):  # no descriptor is free for the socket
        nowhere = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        try:
            nowhere.setblocking(False)  # noqa: FBT003 - the library's own signature
            os.dup2(nowhere.fileno(), descriptor, inheritable=False)
        finally:
            nowhere.close()


def import_for_fork() -> None:
    """Import what `never_free` needs: in a forked child an import may wait for ever for a lock."""
    import ctypes  # noqa: F401 - only loaded


def never_free(thing: object) -> None:
    """Keep *thing* until this process ends, also while the interpreter cleans up."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
