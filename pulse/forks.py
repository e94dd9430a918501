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
from pulse.patching import process_is_patched

if TYPE_CHECKING:
    from greenlet import greenlet


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


def keep_sigterm_across_forks() -> None:
    """Block SIGTERM while this process forks, and deliver it after the hooks of the fork.

    CPython forgets in a forked child each signal whose Python handler has not run yet
    (`_PySignal_AfterFork`), so that a SIGTERM sent right after the fork would be lost. In the
    parent, what a handler raises inside a hook of the fork would be lost (`os.register_at_fork`).
    Both hooks are C functions, since Python runs a handler before it returns from a Python
    function. Call it after the other hooks of pulse have been registered: of the hooks before a
    fork the one that was registered last runs first, of those after a fork it runs last.
    """
    import ctypes
    from functools import partial

    library = ctypes.PyDLL(None)  # keeps the interpreter's lock: no other thread goes on
    signals = ctypes.create_string_buffer(128)  # sigset_t of glibc and musl
    library.sigemptyset(signals)
    library.sigaddset(signals, int(signal.SIGTERM))
    unblock = partial(library.pthread_sigmask, int(signal.SIG_UNBLOCK), signals, None)
    os.register_at_fork(
        before=partial(library.pthread_sigmask, int(signal.SIG_BLOCK), signals, None),
        after_in_parent=unblock,
        after_in_child=unblock,
    )


def import_for_fork() -> None:
    """Import what `never_free` needs: in a forked child an import may wait for ever for a lock."""
    import ctypes  # noqa: F401 - only loaded


def never_free(thing: object) -> None:
    """Keep *thing* until this process ends, also while the interpreter cleans up."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
