"""A uWSGI worker: pulse starts after its fork, or, with lazy-apps, while its application loads.

`post_fork_hook` runs in workers, and also in mules and the spooler. Python's at-fork callbacks run
only if uWSGI is started with `--py-call-uwsgi-fork-hooks`, or before Python 3.13 with
`--py-call-osafterfork`, which kills workers since then (unbit/uwsgi issue 2710); its at-exit
callbacks always run.

uWSGI calls hooks and at-exit callbacks in its first interpreter only. The application of a second
`--mount` has another interpreter, unless `--single-interpreter` is given. The module
`pulse.serving.interpreters` makes the first interpreter run code in another one. It needs
`ctypes`, so it is imported only if uWSGI has loaded another application before.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Protocol

from pulse.serving.call_stack import LoadingCall, frames_out, module_of
from pulse.serving.gunicorn import weak_call_if_used
from pulse.serving.lifecycle import ServiceLifecycle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DEFAULT_MERCY_S = 60.0
"""uWSGI's own default of `worker-reload-mercy`."""


LOADERS = ("importlib.", "_frozen_importlib", "uwsgi_file_", "paste.deploy.")
"""Prefixes of the names of modules whose code runs while uWSGI loads the application."""


HOOK = "post_fork_hook"
HOOK_OF_OTHERS = "pulse_post_fork_hook"
"""The attribute of the module `uwsgi` that holds the hook in interpreters other than the first."""

_MODULE = f"__import__('importlib').import_module({ServiceLifecycle.__module__!r})"
AFTER_FORK = f"__import__('uwsgi').{HOOK_OF_OTHERS}()"
AT_EXIT = f"{_MODULE}.REGISTRY.shutdown_all()"
UNREACHABLE = (ImportError, AttributeError, OSError, MemoryError, RuntimeError)
"""Raised if code cannot be run in another interpreter: `ctypes` or a function of Python's C API is
absent, the system forbids such calls, or the code fails in the other interpreter."""

LATE_NOTICE = (
    "this application has a Python interpreter of its own, in which uWSGI calls no hooks, and "
    "pulse cannot be started there from the first one: {error!r}; in each worker its tasks start "
    "with the first request to this application; start uWSGI with --single-interpreter or "
    "--lazy-apps"
)
GEVENT_NOTICE = (
    "this application has a Python interpreter of its own, in which uWSGI's gevent loop does not "
    "work: a request to this application kills the worker; start uWSGI with --single-interpreter"
)


class Uwsgi(Protocol):
    """What pulse uses of the module `uwsgi`, which exists only in uWSGI's processes."""

    opt: Mapping[str, object]
    loop: bytes | None
    post_fork_hook: Callable[[], object]

    def workers(self) -> Iterable[Mapping[str, object]]:
        """Return a description of each worker; its `apps` are the loaded applications."""

    def worker_id(self) -> int:
        """Return the worker's number, 0 outside workers."""

    def mule_id(self) -> int:
        """Return the mule's number, 0 outside mules."""


class UwsgiWorker:
    """The worker that this process is."""

    __slots__ = ("_first", "_loading", "_uwsgi")

    def __init__(
        self, uwsgi: Uwsgi, loading: LoadingCall | None = None, *, first: bool = True
    ) -> None:
        self._uwsgi = uwsgi
        self._loading = loading
        self._first = first

    def attach(self, lifecycle: ServiceLifecycle) -> None:
        """Start *lifecycle* now; it claims nothing until the application is loaded."""
        lifecycle.set_server(self)
        if not self._first:
            _warn_of_gevent(self._uwsgi, lifecycle)
            # If this fails, runs that are in progress at the exit are recorded as abandoned.
            with contextlib.suppress(*UNREACHABLE):
                _call_shutdown_at_exit()
        lifecycle.start_automatically()

    def accepts_work(self) -> bool:
        """Return whether the application is loaded; uWSGI does not show when it wants to stop."""
        return self._loading is None or self._loading.is_over()

    def time_left_s(self) -> float:
        """Return the seconds after which uWSGI kills a worker that does not exit."""
        options = self._uwsgi.opt
        mercy_s = _seconds(options.get("worker-reload-mercy"), DEFAULT_MERCY_S)
        return min(mercy_s, _seconds(options.get("reload-mercy"), mercy_s))

    def application(self) -> None:
        """Return None: uWSGI does not show what it calls."""


class UwsgiMaster:
    """The process that loads the application and forks workers, or becomes the only one."""

    __slots__ = ("_first", "_pid", "_uwsgi")

    def __init__(self, uwsgi: Uwsgi, *, first: bool = True) -> None:
        self._uwsgi = uwsgi
        self._first = first
        self._pid = os.getpid()

    def attach(self, lifecycle: ServiceLifecycle) -> None:
        """Start *lifecycle* in each worker, after all other hooks."""
        name = HOOK if self._first else HOOK_OF_OTHERS
        theirs = getattr(self._uwsgi, name, None)
        ours = weak_call_if_used(lifecycle, self._forked)

        def hook() -> None:
            if theirs is not None:
                theirs()
            ours()

        setattr(self._uwsgi, name, hook)
        # One hook in the first interpreter serves all lifecycles of another interpreter.
        if not self._first and theirs is None:
            self._hook_other_interpreter(lifecycle)

    def accepts_work(self) -> bool:
        """Return True: only a service with `start = eager` runs in a master."""
        return True

    def time_left_s(self) -> None:
        """Return None: uWSGI sets its master no limit."""

    def application(self) -> None:
        """Return None: uWSGI does not show what it calls."""

    def _forked(self, lifecycle: ServiceLifecycle) -> None:
        if os.getpid() != self._pid:  # in mules and the spooler, too
            lifecycle.forked()
        if is_worker(self._uwsgi):
            UwsgiWorker(self._uwsgi).attach(lifecycle)

    def _hook_other_interpreter(self, lifecycle: ServiceLifecycle) -> None:
        """Make the first interpreter start and shut down the lifecycles of this one."""
        _warn_of_gevent(self._uwsgi, lifecycle)
        try:
            _call_hook_after_fork()
            _call_shutdown_at_exit()
        except UNREACHABLE as error:
            lifecycle.note(LATE_NOTICE.format(error=error))


def detect() -> UwsgiWorker | UwsgiMaster | None:
    """Return the uWSGI worker or master that this process is, or None."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None:
        return None
    if is_worker(uwsgi):
        return UwsgiWorker(uwsgi, _loading_call(), first=_is_first_interpreter(uwsgi))
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


def _call_hook_after_fork() -> None:
    """Make each worker call the hook of this interpreter, in which uWSGI calls none."""
    from pulse.serving.interpreters import call_after_fork

    call_after_fork(AFTER_FORK)


def _call_shutdown_at_exit() -> None:
    """Make each worker shut down what runs in this interpreter, before the worker exits."""
    from pulse.serving.interpreters import call_at_exit

    call_at_exit(AT_EXIT)


def _warn_of_gevent(uwsgi: Uwsgi, lifecycle: ServiceLifecycle) -> None:
    if uwsgi.loop == b"gevent":
        lifecycle.note(GEVENT_NOTICE)


def _loading_call() -> LoadingCall | None:
    """Return the outermost call that loads the application, or None outside of loading.

    The outermost call of all would be wrong: a Python program may have started uWSGI.
    """
    loaders = [frame for frame in frames_out() if module_of(frame).startswith(LOADERS)]
    return LoadingCall(loaders[-1], threading.get_ident()) if loaders else None


def _seconds(value: object, default: float) -> float:
    """Return the number in an option: uWSGI gives bytes, True for a flag, a list if repeated."""
    return float(value) if isinstance(value, bytes) and value.isdigit() else default
