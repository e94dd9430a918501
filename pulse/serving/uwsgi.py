"""A uWSGI worker: begun after its fork, or, with lazy-apps, once its application is loaded.

Workers are told by `post_fork_hook`, which mules and the spooler run too. Python's at-fork
callbacks run only where uWSGI is given `--py-call-osafterfork`; its at-exit callbacks always do.

uWSGI calls hooks and at-exit callbacks in its first interpreter only. The application of a second
`--mount` has another interpreter, unless `--single-interpreter` is given. The module
`pulse.serving.interpreters` makes the first interpreter call what belongs to another one. It needs
`ctypes`, so it is imported only where uWSGI has loaded another application before.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Protocol

from pulse.serving.call_stack import Loading, frames_out, module_of
from pulse.serving.gunicorn import weak_call_if_used
from pulse.serving.process_registry import ProcessRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pulse.serving.base import ManagedLifecycle

DEFAULT_MERCY_S = 60.0
"""uWSGI's own default of `worker-reload-mercy`."""


LOADERS = ("importlib.", "_frozen_importlib", "uwsgi_file_", "paste.deploy.")
"""The modules, by the beginnings of their names, whose code runs while uWSGI loads."""


HOOK = "post_fork_hook"
HOOK_OF_OTHERS = "pulse_post_fork_hook"
"""The attribute of the module `uwsgi` that holds the hook in other interpreters than the first."""

AFTER_FORK = f"__import__('uwsgi').{HOOK_OF_OTHERS}()"
AT_EXIT = f"__import__('importlib').import_module({ProcessRegistry.__module__!r}).REGISTRY.leave()"
UNREACHABLE = (ImportError, AttributeError, OSError, MemoryError, RuntimeError)
"""What is raised where an interpreter cannot be entered: `ctypes` or a function of Python's C API
is absent, the system forbids such calls, or the code fails in the other interpreter."""

LATE_NOTICE = (
    "this application has a Python interpreter of its own, in which uWSGI calls no hooks, and "
    "pulse cannot begin there from outside: {error!r}; in each worker its tasks begin with the "
    "first request to this application; start uWSGI with --single-interpreter or --lazy-apps"
)
GEVENT_NOTICE = (
    "this application has a Python interpreter of its own, in which uWSGI's gevent loop does not "
    "work: a request to this application kills the worker; start uWSGI with --single-interpreter"
)


class Uwsgi(Protocol):
    """What pulse uses of the module that uWSGI puts into its processes."""

    opt: Mapping[str, object]
    loop: bytes | None
    post_fork_hook: Callable[[], object]

    def workers(self) -> Iterable[Mapping[str, object]]:
        """Return what is known of each worker; its `apps` are those that are loaded."""

    def worker_id(self) -> int:
        """Return the worker's number, 0 outside workers."""

    def mule_id(self) -> int:
        """Return the mule's number, 0 outside mules."""


class UwsgiWorker:
    """The worker that this process is."""

    __slots__ = ("_first", "_loading", "_uwsgi")

    def __init__(self, uwsgi: Uwsgi, loading: Loading | None = None, *, first: bool = True) -> None:
        self._uwsgi = uwsgi
        self._loading = loading
        self._first = first

    def enter(self, member: ManagedLifecycle) -> None:
        """Begin *member* now; it claims nothing until the application is loaded."""
        member.belong(self)
        if not self._first:
            _warn_of_gevent(self._uwsgi, member)
            # Where this fails, runs that are in progress at the end are recorded as abandoned.
            with contextlib.suppress(*UNREACHABLE):
                _end_another()
        member.enter()

    def serving(self) -> bool:
        """Return whether the application is loaded; uWSGI does not tell when it wants to stop."""
        return self._loading is None or self._loading.is_over()

    def application(self) -> None:
        """Return None: uWSGI does not show what it calls."""

    def limit_s(self) -> float:
        """Return the time after which uWSGI kills a worker that does not end."""
        options = self._uwsgi.opt
        mercy_s = _seconds(options.get("worker-reload-mercy"), DEFAULT_MERCY_S)
        return min(mercy_s, _seconds(options.get("reload-mercy"), mercy_s))


class UwsgiMaster:
    """The process that loads the application and forks workers, or becomes the only one."""

    __slots__ = ("_first", "_pid", "_uwsgi")

    def __init__(self, uwsgi: Uwsgi, *, first: bool = True) -> None:
        self._uwsgi = uwsgi
        self._first = first
        self._pid = os.getpid()

    def enter(self, member: ManagedLifecycle) -> None:
        """Begin *member* in each worker, after whatever else is to run there."""
        name = HOOK if self._first else HOOK_OF_OTHERS
        theirs = getattr(self._uwsgi, name, None)
        ours = weak_call_if_used(member, self._forked)

        def hook() -> None:
            if theirs is not None:
                theirs()
            ours()

        setattr(self._uwsgi, name, hook)
        if not self._first and theirs is None:
            self._enter_another(member)

    def _forked(self, member: ManagedLifecycle) -> None:
        if os.getpid() != self._pid:  # in mules and the spooler, too
            member.forked()
        if is_worker(self._uwsgi):
            UwsgiWorker(self._uwsgi).enter(member)

    def _enter_another(self, member: ManagedLifecycle) -> None:
        """Let the first interpreter begin and end the members of this one in each worker."""
        _warn_of_gevent(self._uwsgi, member)
        try:
            _begin_another()
            _end_another()
        except UNREACHABLE as error:
            member.note(LATE_NOTICE.format(error=error))


def find() -> UwsgiWorker | UwsgiMaster | None:
    """Return what uWSGI calls this process, if it is one of its master and workers."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None:
        return None
    if is_worker(uwsgi):
        return UwsgiWorker(uwsgi, _loading(), first=_is_first_interpreter(uwsgi))
    return None if uwsgi.mule_id() else UwsgiMaster(uwsgi, first=_is_first_interpreter(uwsgi))


def is_worker(uwsgi: Uwsgi) -> bool:
    """Return whether this process serves requests for uWSGI."""
    return uwsgi.worker_id() > 0 and not uwsgi.mule_id()


def _is_first_interpreter(uwsgi: Uwsgi) -> bool:
    """Return whether this interpreter is the one in which uWSGI calls hooks."""
    loaded = any(worker.get("apps") for worker in uwsgi.workers())
    if not loaded or "single-interpreter" in uwsgi.opt:
        return True
    try:
        from pulse.serving.interpreters import FIRST, this_interpreter

        return this_interpreter() == FIRST
    except UNREACHABLE:
        return False


def _begin_another() -> None:
    """Let each worker call the hook of this interpreter, in which uWSGI calls none."""
    from pulse.serving.interpreters import call_after_fork

    call_after_fork(AFTER_FORK)


def _end_another() -> None:
    """Let each worker end what has begun in this interpreter, before it ends itself."""
    from pulse.serving.interpreters import call_at_exit

    call_at_exit(AT_EXIT)


def _warn_of_gevent(uwsgi: Uwsgi, member: ManagedLifecycle) -> None:
    if uwsgi.loop == b"gevent":
        member.note(GEVENT_NOTICE)


def _loading() -> Loading | None:
    """Return the outermost call that loads the application, if any does.

    The outermost call of all will not do: uWSGI itself may have been run by Python.
    """
    loaders = [frame for frame in frames_out() if module_of(frame).startswith(LOADERS)]
    return Loading(loaders[-1], threading.get_ident()) if loaders else None


def _seconds(value: object, default: float) -> float:
    """Return an option's number: uWSGI gives bytes, True for a flag, a list for repetitions."""
    return float(value) if isinstance(value, bytes) and value.isdigit() else default
