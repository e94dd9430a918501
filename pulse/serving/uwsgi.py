"""A uWSGI worker: begun after its fork, or, with lazy-apps, once its application is loaded.

Workers are told by `post_fork_hook`, which mules and the spooler run too. Python's at-fork
callbacks run only where uWSGI is given `--py-call-osafterfork`; its at-exit callbacks always do.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Protocol

from pulse.serving.call_stack import Loading, frames_out, module_of
from pulse.serving.gunicorn import told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pulse.serving.base import Member

MERCY_S = 60.0
"""uWSGI's own default of `worker-reload-mercy`."""


LOADERS = ("importlib.", "_frozen_importlib", "uwsgi_file_", "paste.deploy.")
"""The modules, by the beginnings of their names, whose code runs while uWSGI loads."""


class Uwsgi(Protocol):
    """What pulse uses of the module that uWSGI puts into its processes."""

    opt: Mapping[str, object]
    post_fork_hook: Callable[[], object]

    def worker_id(self) -> int:
        """Return the worker's number, 0 outside workers."""

    def mule_id(self) -> int:
        """Return the mule's number, 0 outside mules."""


class UwsgiWorker:
    """The worker that this process is."""

    __slots__ = ("_loading", "_uwsgi")

    def __init__(self, uwsgi: Uwsgi, loading: Loading | None = None) -> None:
        self._uwsgi = uwsgi
        self._loading = loading

    def enter(self, member: Member) -> None:
        """Begin *member* now; it claims nothing until the application is loaded."""
        member.belong(self)
        member.enter()

    def serving(self) -> bool:
        """Return whether the application is loaded; uWSGI does not tell when it wants to stop."""
        return self._loading is None or self._loading.is_over()

    def limit_s(self) -> float:
        """Return the time after which uWSGI kills a worker that does not end."""
        options = self._uwsgi.opt
        mercy_s = _seconds(options.get("worker-reload-mercy"), MERCY_S)
        return min(mercy_s, _seconds(options.get("reload-mercy"), mercy_s))


class UwsgiMaster:
    """The process that loads the application and forks workers, or becomes the only one."""

    __slots__ = ("_pid", "_uwsgi")

    def __init__(self, uwsgi: Uwsgi) -> None:
        self._uwsgi = uwsgi
        self._pid = os.getpid()

    def enter(self, member: Member) -> None:
        """Begin *member* in each worker, after whatever else is to run there."""
        theirs = getattr(self._uwsgi, "post_fork_hook", None)
        ours = told(member, self._forked)

        def hook() -> None:
            if theirs is not None:
                theirs()
            ours()

        self._uwsgi.post_fork_hook = hook

    def _forked(self, member: Member) -> None:
        if not is_worker(self._uwsgi):
            return
        if os.getpid() != self._pid:
            member.forked()
        UwsgiWorker(self._uwsgi).enter(member)


def find() -> UwsgiWorker | UwsgiMaster | None:
    """Return what uWSGI calls this process, if it is one of its master and workers."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None:
        return None
    if is_worker(uwsgi):
        return UwsgiWorker(uwsgi, _loading())
    return None if uwsgi.mule_id() else UwsgiMaster(uwsgi)


def is_worker(uwsgi: Uwsgi) -> bool:
    """Return whether this process serves requests for uWSGI."""
    return uwsgi.worker_id() > 0 and not uwsgi.mule_id()


def _loading() -> Loading | None:
    """Return the outermost call that loads the application, if any does.

    The outermost call of all will not do: uWSGI itself may have been run by Python.
    """
    loaders = [frame for frame in frames_out() if module_of(frame).startswith(LOADERS)]
    return Loading(loaders[-1], threading.get_ident()) if loaders else None


def _seconds(value: object, default: float) -> float:
    """Return an option's number: uWSGI gives bytes, True for a flag, a list for repetitions."""
    return float(value) if isinstance(value, bytes) and value.isdigit() else default
