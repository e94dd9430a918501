"""Sets hooks in gunicorn's configuration around those that are set already."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.serving.base import Member


class Config(Protocol):
    """What pulse uses of `gunicorn.config.Config`: its settings are read as attributes."""

    def set(self, name: str, value: object) -> None:
        """Set the setting *name*."""


def told(member: Member, action: Callable[[Member], None]) -> Callable[[], None]:
    """Return a call of *action* on *member*, which it does not keep alive."""
    known = weakref.ref(member)

    def tell() -> None:
        still = known()
        if still is not None:
            action(still)

    return tell


def told_if_used(member: Member, action: Callable[[Member], None]) -> Callable[[], None]:
    """Return the same, which first lets go of a member that was dropped but lies in a cycle."""
    known = weakref.ref(member)
    tell = told(member, action)

    def tell_if_used() -> None:
        still = known()
        if still is not None and still.may_be_dropped():
            del still
            gc.collect()
        tell()

    return tell_if_used


def run_after(config: Config, name: str, ours: Callable[[], None]) -> None:
    """Let the hook *name*, which takes a worker, go on to *ours*."""
    theirs = getattr(config, name)

    # gunicorn checks how many positional parameters a hook has.
    def hook(worker: object) -> None:
        theirs(worker)
        ours()

    config.set(name, hook)


def run_before(config: Config, name: str, ours: Callable[[], None]) -> None:
    """Let *ours* run before the hook *name*, which takes a worker and runs whatever happens."""
    theirs = getattr(config, name)

    def hook(worker: object) -> None:
        try:
            ours()
        finally:
            theirs(worker)

    config.set(name, hook)


def run_before_exit(config: Config, ours: Callable[[], None]) -> None:
    """Let *ours* run before the hook `worker_exit`, which runs whatever happens."""
    theirs = getattr(config, "worker_exit")  # noqa: B009 - as the others; no type knows it

    def hook(server: object, worker: object) -> None:
        try:
            ours()
        finally:
            theirs(server, worker)

    config.set("worker_exit", hook)
